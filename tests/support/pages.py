"""The examples of documentation pages, run as they stand."""

from __future__ import annotations

import re


def python_blocks(*pages):
    """Every Python example of these pages."""
    return [
        block
        for page in pages
        for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ]


def run_example(blocks, name, folder):
    """Run the one of these that defines this name, as a script of the user's would; what the name is then."""
    (block,) = [block for block in blocks if f"def {name}(" in block]
    script = folder / f"{name}.py"
    script.write_text(block)
    names = {"__name__": "example"}
    exec(compile(block, str(script), "exec"), names)
    return names[name]
