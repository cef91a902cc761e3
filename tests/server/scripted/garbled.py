"""Every output of a tier, malformed: what `# TIER garbles: JSON` of tier.py is told."""

from __future__ import annotations

from typing import Any

GARBLED: dict[str, dict[str, Any]] = {
    "no text": {"text_output": None},
    "a text that is no UTF-8": {"text_output": ["\xff\xfe"]},
    "a text of numbers": {"text_output": [1]},
    "two texts": {"text_output": ["a", "b"]},
    "no token count": {"completion_tokens": None},
    "a negative token count": {"completion_tokens": [-7]},
    "an absurd token count": {"completion_tokens": [2**31 - 1]},
    "a token count in bytes": {"completion_tokens": ["3"]},
    "no count of the prompt": {"prompt_tokens": None},
    "a negative count of the prompt": {"prompt_tokens": [-1]},
    "counts of other lines": {"line_tokens": [1, 2, 3, 4, 5, 6, 7]},
    "a finish reason that is no UTF-8": {"finish_reason": ["\xc3("]},
    "an unknown finish reason": {"finish_reason": ["tired"]},
    "a stop word that is no UTF-8": {"stop_word": ["\xff"]},
    "a log-probability that is no number": {"cum_log_probs": [float("nan")]},
    "an infinite log-probability": {"min_log_prob": [-float("inf")]},
    "log-probabilities in bytes": {"cum_log_probs": ["-1"]},
    "no lowest log-probability": {"min_log_prob": None},
    "negatively many log-probabilities": {"log_prob_tokens": [-3]},
}
