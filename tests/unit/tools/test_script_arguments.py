"""What a script says of its command line, without being run."""

from __future__ import annotations

import ast

from python_mcp_server.tools.saved import arguments_of, description_of, list_scripts, save_script

SOURCE = """
import argparse, sys
sys.exit("this is never run")
def main():
    parser = argparse.ArgumentParser(description="Counts   things.")
    parser.add_argument("files", nargs="+", help="what to count")
    parser.add_argument("-y", "--year", type=int, default=2025, choices=range(2000, 2030), required=False)
    commands = parser.add_subparsers()
    show = commands.add_parser("show")
    show.add_argument("--all", action="store_true", help="also\\n  hidden")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", dest="q")
    parser.add_argument(*COMMON)
    "text".add_argument(3)
"""


def test_arguments_are_read_in_the_order_of_the_text() -> None:
    assert arguments_of(ast.parse(SOURCE)) == [
        {"names": ["files"], "nargs": "+", "help": "what to count"},
        {"names": ["-y", "--year"], "type": "int", "default": "2025", "choices": "range(2000, 2030)",
         "required": "False"},
        {"names": ["--all"], "action": "store_true", "help": "also hidden", "command": "show"},
        {"names": ["--quiet"]},
    ]  # fmt: skip


def test_the_parser_describes_a_script_without_a_docstring() -> None:
    assert description_of(ast.parse(SOURCE)) == "Counts things."
    save_script("count", SOURCE)
    save_script("said", f'"""Says it itself."""{SOURCE}')
    listed = list_scripts()["scripts"]
    assert [script["docstring"] for script in listed] == ["Counts things.", "Says it itself."]
    assert [len(script.get("arguments", [])) for script in listed] == [4, 4]


def test_a_script_without_a_parser_has_none() -> None:
    tree = ast.parse("import sys; print(sys.argv); parser = ArgumentParser(prog='x')")
    assert (arguments_of(tree), description_of(tree)) == ([], "")


def test_descriptions_are_bounded() -> None:
    many = "\n".join(f"p.add_argument('--a{n}', help='{'h' * 1000}')" for n in range(100))
    told = arguments_of(ast.parse(many))
    assert (len(told), len(told[0].get("help", ""))) == (50, 300)
