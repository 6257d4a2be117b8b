"""A run for other tools: its metrics, and its networks as safetensors, for diffusers, as ONNX."""
