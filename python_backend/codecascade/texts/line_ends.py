"""What lines of a text end with."""


def line_end(text: str) -> str:
    """What most lines of the text end with."""
    if "\r" not in text:
        return "\n"
    if "\n" not in text:
        return "\r"
    return "\r\n" if 2 * text.count("\r\n") >= text.count("\n") else "\n"
