"""What a person sees: one line an error, names that tell files apart, tables for eye and pipe."""

import sys
from pathlib import Path

import pytest

from cardiac_vae.cli.console import one_line, print_table, run_each, short_names
from cardiac_vae.cli.inputs import Case


def test_an_error_is_one_line_that_names_its_file():
    source = Path("a/mask.nii")
    assert one_line(ValueError("two\n  lines"), source) == "a/mask.nii: two lines"
    assert one_line(ValueError("a/mask.nii: known"), source) == "a/mask.nii: known"
    full = OSError(28, "No space left on device", "out/mask.nii")
    assert one_line(full) == "out/mask.nii: No space left on device"


def test_names_tell_files_apart():
    paths = [Path("a/x/1.nii"), Path("a/y/1.nii"), Path("a/y/../y/2.nii")]
    assert list(short_names(paths).values()) == ["x/1.nii", "y/1.nii", "y/2.nii"]
    assert short_names([Path("a/b/c.nii")]) == {Path("a/b/c.nii"): "c.nii"}
    assert short_names([]) == {}


def test_a_piped_table_is_aligned_and_plain(capsys):
    print_table(("name", "slices"), [("a", 1), ("longer", 22)])
    assert capsys.readouterr().out == "name    slices\na       1\nlonger  22\n"


def test_a_table_on_a_terminal_keeps_every_letter(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("name",), [("[red]" + "x" * 200,)])
    shown = capsys.readouterr().out
    assert shown.count("x") == 200
    assert "[red]" in shown


def test_a_bad_case_is_kept_apart_and_a_bug_is_not_hidden():
    cases = [Case(Path(name)) for name in "abc"]

    def work(case: Case) -> str:
        if case.source.name == "b":
            raise ValueError("expected more, got less")
        return case.source.name

    results, failures = run_each(cases, work, "working")
    assert results == ["a", "c"]
    assert [failure.message for failure in failures] == ["b: expected more, got less"]
    with pytest.raises(TypeError):
        run_each(cases, lambda case: case + 1, "working")
