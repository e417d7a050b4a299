"""What the reader of a stage's notebook sees: its figures, and the computed sentences that say what they mean."""
