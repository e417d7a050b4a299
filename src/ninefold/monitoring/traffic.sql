-- Requests by minute to the routes that decide: probes of /health would hide their errors.
SELECT minute, sum(requests), sum(requests * (status >= 500)), sum(slow), sum(requests * (status BETWEEN 400 AND 499))
FROM traffic WHERE route IN ('/predict', '/v2/models/{name}/infer', '/review/record') GROUP BY minute
