"""Tables that read well in a terminal and are Markdown."""


def markdown(rows, columns=None):
    """rows (dicts) as a Markdown table, numbers to three places and to the right. `columns` chooses and orders them."""
    columns = list(columns or rows[0])
    texts = [[_text(row.get(column, "")) for column in columns] for row in rows]
    right = [any(isinstance(row.get(column), (int, float)) for row in rows) for column in columns]
    widths = [max(3, len(column), *(len(line[i]) for line in texts)) for i, column in enumerate(columns)]

    def line(cells):
        return "| " + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right)) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|"
    return "\n".join([line(columns), rule, *map(line, texts)])


def _text(value):
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    return str(value).replace("|", "/")
