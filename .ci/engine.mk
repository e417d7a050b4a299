# Targets of those who work on the engine; copied projects do not have them.
.PHONY: bench s3

bench: $(READY) ## measure speed; writes the tables in benchmarks/
	@python benchmarks/pipeline.py
	@python benchmarks/increment.py
	@python benchmarks/engine.py --sizes 1,10

s3: $(READY) ## build an environment of its own in .venv-s3 for DVC with S3, which pins other versions
	@test -x $(VENV)-s3/bin/python || $(PYTHON) -m venv $(VENV)-s3
	@ln -sf ../../$(VENV)/bin/uv $(VENV)-s3/bin/uv
	@$(subst $(VENV)/bin/uv,$(VENV)-s3/bin/uv,$(FILL)) --no-deps -r deploy/requirements-release.lock

lock: $(READY)
	@$(LOCK) --extra dev pyproject.toml -o requirements.lock
	@python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["spark"], sep="\n")' | $(LOCK) -c requirements.lock - -o requirements-spark.lock
	@$(LOCK) -c requirements.lock deploy/requirements.in -o requirements-serve.lock
	@sed -n 's/^dvc==\([^ ]*\) .*/dvc[s3]==\1/p' requirements.lock | $(LOCK) - -o deploy/requirements-release.lock
