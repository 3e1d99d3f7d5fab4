import pytest
from pydantic import PositiveInt, ValidationError

from cardiac_vae.config import StrictConfig, read_section, read_yaml, write_yaml


class Inner(StrictConfig):
    rate: float = 0.5


class Settings(StrictConfig):
    size: PositiveInt = 4
    inner: Inner = Inner()


def test_plain_values_become_a_config_and_it_stays_as_it_is():
    settings = Settings.parse({"size": 8, "inner": {"rate": 2}}, "here")
    assert settings == Settings(size=8, inner=Inner(rate=2.0))
    assert Settings.parse({}, "here") == Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.size = 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sizes": 3}, r"^params.yaml, train: sizes: unknown parameter \(known: size, inner\)$"),
        ({"size": -1}, "size: Input should be greater than 0, got -1"),
        ({"size": "large"}, "size: .*, got 'large'"),
        ({"inner": {"speed": 1}}, "inner.speed: unknown parameter"),
        ({"size": 0, "colour": 1}, "size: .*; colour: unknown parameter"),
    ],
)
def test_every_wrong_parameter_is_named_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings.parse(values, "params.yaml, train")
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read_in_the_same_order(tmp_path):
    values = {"z": [1, 2], "a": {"rate": 0.25, "name": "x"}, "m": None}
    write_yaml(tmp_path / "params.yaml", values)
    read = read_yaml(tmp_path / "params.yaml")
    assert read == values
    assert list(read) == list(values)
    assert read_section(tmp_path / "params.yaml", "a") == values["a"]
    assert read_section(tmp_path / "params.yaml", "m") == {}


def test_a_missing_file_section_or_mapping_is_said(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(FileNotFoundError):
        read_yaml(path)
    write_yaml(path, {"train": {}, "data": {}})
    with pytest.raises(ValueError, match=r"no section 'refine'; there are \['data', 'train'\]"):
        read_section(path, "refine")
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="expected a mapping of parameters, got list"):
        read_yaml(path)
