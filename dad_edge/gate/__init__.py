"""The accuracy gate: engines against the FP32 graphs on the same noise."""
