"""Predicting with exported models: numpy and onnxruntime, without torch."""
