from pathlib import Path
from typing import Any

import pytest

from cardiac_vae.data.acquisition import acquire
from cardiac_vae.data.phantom import PhantomConfig
from cardiac_vae.data.source import SourceConfig

TWO_PATIENTS = PhantomConfig(num_patients=2)


@pytest.fixture(scope="module")
def acquired(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a folder of two phantoms and the summary of it."""
    root = tmp_path_factory.mktemp("phantom")
    return root, acquire(SourceConfig(), TWO_PATIENTS, root)


@pytest.fixture(scope="module")
def phantom(acquired: tuple[Path, dict[str, Any]]) -> Path:
    return acquired[0]


def files_below(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_phantom_is_counted_by_group(acquired: tuple[Path, dict[str, Any]]):
    _, summary = acquired
    assert (summary["num_patients"], summary["num_cases"]) == (2, 4)
    assert sum(summary["cases_per_group"].values()) == 4


def test_an_acdc_folder_is_copied_byte_for_byte_without_what_no_case_needs(
    phantom: Path, tmp_path: Path
):
    original = files_below(phantom)
    cine = phantom / "patient001" / "patient001_4d.nii.gz"
    cine.write_bytes(b"a whole cine")
    summary = acquire(SourceConfig(name="acdc", root=phantom), TWO_PATIENTS, tmp_path / "raw")
    cine.unlink()
    copied = files_below(tmp_path / "raw")
    assert copied == {name: original[name] for name in copied}
    assert set(original) - set(copied) == {"factors.csv"}
    assert summary["num_cases"] == 4


def test_a_plain_folder_is_copied_with_its_groups(phantom: Path, tmp_path: Path):
    root = tmp_path / "plain"
    for folder, ending in (("images", ""), ("masks", "_gt")):
        (root / folder).mkdir(parents=True)
        [source] = phantom.glob(f"patient001/*frame01{ending}.nii.gz")
        (root / folder / "a_ed.nii.gz").write_bytes(source.read_bytes())
    (root / "groups.csv").write_text("patient_id,group\na,DCM\n")
    summary = acquire(SourceConfig(name="nifti_folder", root=root), TWO_PATIENTS, tmp_path / "raw")
    assert files_below(tmp_path / "raw") == files_below(root)
    assert summary["cases_per_group"] == {"DCM": 1}


def test_a_missing_file_of_a_case_is_named(phantom: Path, tmp_path: Path):
    acquire(SourceConfig(name="acdc", root=phantom), TWO_PATIENTS, tmp_path / "broken")
    (tmp_path / "broken" / "patient002" / "Info.cfg").unlink()
    config = SourceConfig(name="acdc", root=tmp_path / "broken")
    with pytest.raises(FileNotFoundError, match=r"patient002/Info\.cfg"):
        acquire(config, TWO_PATIENTS, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "acdc"}, "root is the folder.* got name 'acdc' with root None"),
        ({"root": "somewhere"}, "got name 'phantom' with root somewhere"),
        ({"name": "mri"}, "name: .*'phantom', 'acdc' or 'nifti_folder'.* got 'mri'"),
        ({"folder": "x"}, "folder: unknown parameter"),
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(values: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message) as caught:
        SourceConfig.parse(values, "configs/params.yaml: data")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith("configs/params.yaml: data: ")
