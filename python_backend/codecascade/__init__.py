"""The self-testing cascade: what runs inside Triton and what the offline tools share with it."""
