"""The source files that a script depends on: itself, the modules of this repository that it imports, and so on."""

import ast
import functools
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
ROOTS = [SCRIPTS, SCRIPTS.parent / "eval"]  # where modules lie, if not beside the script


def imported(path):
    """Names that a file imports, in full: `from lib import files` may be the module lib.files, or the name files in
    lib.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return set()  # running it will tell
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {(node.level, f"{module}.{alias.name}".strip(".")) for alias in node.names} | {
                (node.level, module)
            }
    return found


def located(name, folders):
    """Files of a dotted module name: the packages on the way, and the module itself as far as it is one."""
    for folder in folders:
        found, at = [], folder
        for part in name.split(".") if name else []:
            at = at / part
            module = next((path for path in (at.with_name(part + ".py"), at / "__init__.py") if path.is_file()), None)
            if not module and not at.is_dir():
                break
            found += [module] if module else []
        if found:
            return found
    return []


@functools.cache
def direct(path):
    """Files that one file imports, and what lies beside a package's modules (styles, scripts of a page)."""
    found = set()
    if (path.parent / "__init__.py").is_file():
        found |= {other for other in path.parent.iterdir() if other.suffix in (".css", ".js")}
    for level, name in imported(path):
        folders = [path.parents[level - 1]] if level else [path.parent, *ROOTS]
        found |= {module.resolve() for module in located(name, folders)}
    return found


def sources(script):
    """All files, sorted."""
    found, waiting = set(), [Path(script).resolve()]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += direct(path) if path.suffix == ".py" else []
    return sorted(found)
