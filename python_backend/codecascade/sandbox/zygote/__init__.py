"""What runs inside the sandbox: a fresh interpreter that locks itself down and forks one child per candidate.

Started by exec with an empty environment and without site-packages, so these modules import the standard library
and each other only, never the rest of codecascade.
"""
