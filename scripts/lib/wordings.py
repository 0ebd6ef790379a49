"""Pairs that say the same as others in other words."""

from lib.formats import questions_of, read_pairs


def other_wordings(rows: list[dict], path: str) -> tuple[list[dict] | None, str | None]:
    """The rows of a file that say the same as `rows`, by person and fact where all rows have them, else row by row.

    Args:
        rows: pairs with their places, as `read_pairs` gives them. path: the file of pairs.
    Returns:
        (a row for each of `rows`, or None; what is wrong with the file, or None).
    """
    others = questions_of(read_pairs(path, places=True))
    if all("person" in row and "fact" in row for row in rows + others):
        key = lambda row: (str(row["person"]), str(row["fact"]))
        found = {key(row): row for row in reversed(others)}
        if missing := next((row for row in rows if key(row) not in found), None):
            fact = f"{missing['person']}'s {missing['fact']}"
            return None, f"{path}: holds no other wording of {fact} ({missing['place']})"
        return [found[key(row)] for row in rows], None
    if len(others) != len(rows):
        count = f"{len(others)} rows for {len(rows)}"
        return None, f"{path}: has {count} to say in other words; give a row each, or person and fact in both files"
    return others, None
