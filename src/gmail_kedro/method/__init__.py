"""The paper: its objective and its diagnostics. Tensors in, tensors out; no I/O, no devices, no logging."""
