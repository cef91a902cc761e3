"""The paper's prices, as data."""

from __future__ import annotations

from collections.abc import Mapping

# family → dataset → tier → US dollars per 1M generated tokens (RTX 3090 at $0.44 an hour; GPUs per tier in brackets).
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "wizardcoder-python": {  # 7B (2), 13B (4), 34B (8)
        "humaneval": {"7B": 1.91, "13B": 6.65, "34B": 20.24},
        "mbpp": {"7B": 1.52, "13B": 5.13, "34B": 11.54},
        "apps": {"7B": 3.25, "13B": 11.83, "34B": 38.23},
    },
    "wizardcoder": {  # V1.0: 1B (1), 3B (1), 15B (2)
        "humaneval": {"1B": 0.13, "3B": 0.26, "15B": 1.74},
        "mbpp": {"1B": 0.10, "3B": 0.16, "15B": 1.34},
        "apps": {"1B": 0.45, "3B": 0.94, "15B": 6.58},
    },
    "codegen-mono": {  # 350M (1), 2B (1), 6B (2), 16B (4)
        "humaneval": {"350M": 1.04, "2B": 2.63, "6B": 5.67, "16B": 15.84},
        "mbpp": {"350M": 1.43, "2B": 3.31, "6B": 9.17, "16B": 18.92},
        "apps": {"350M": 1.37, "2B": 3.43, "6B": 9.03, "16B": 17.43},
    },
}
