"""Weights from files: no pickled code runs, and what does not fit is listed."""

import pytest
import torch
from safetensors.torch import save_file

from gmail_kedro.zoo.encoders import build_encoder
from gmail_kedro.zoo.registry import MissingWeightsError
from gmail_kedro.zoo.state_dicts import find_checkpoint, load_strictly, read_state_dict

from .tiny import save_synclr

CPU = torch.device("cpu")


class Runs:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 1}, lambda s: {"model": s}])
def test_wrappers_and_prefixes_come_off(tmp_path, wrap):
    torch.save(wrap({"module.a": torch.ones(2, dtype=torch.float16)}), tmp_path / "x.pt")
    state = read_state_dict("x", tmp_path / "x.pt")
    assert list(state) == ["a"] and state["a"].dtype == torch.float32


def test_code_in_a_pickle_does_not_run(tmp_path, capsys):
    torch.save({"a": Runs()}, tmp_path / "x.pt")
    with pytest.raises(MissingWeightsError, match="'x' could not be loaded from"):
        read_state_dict("x", tmp_path / "x.pt")
    assert "ran" not in capsys.readouterr().out


def test_something_else_than_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(MissingWeightsError, match="expected a dictionary of tensors, got list"):
        read_state_dict("x", tmp_path / "x.pt")
    with pytest.raises(MissingWeightsError, match="which is not there"):
        read_state_dict("x", tmp_path / "y.pt")


def test_misfits_are_counted_and_listed():
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(4)))
    state = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(2), "extra": torch.ones(1)}
    with pytest.raises(
        MissingWeightsError,
        match=r"of 8 expected tensors 6 missing \(1.bias, 1.weight, 2.bias, ...\); 1 unexpected \(extra\); "
        r"1 of another shape \(0.weight \[3, 2\] instead of \[2, 2\]\). Give the weights of this model",
    ):
        load_strictly("x", model, state, source="here")


def test_a_folder_leads_to_its_one_checkpoint(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no .safetensors or .pt file is there"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"))
    (tmp_path / "b.pt").touch()
    assert find_checkpoint("x", tmp_path, (".safetensors", ".pt")).name == "b.pt"
    (tmp_path / "c.pt").touch()
    with pytest.raises(MissingWeightsError, match="holds several: b.pt, c.pt"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"))


def test_weights_of_another_size_are_refused(tmp_path):
    save_synclr(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(MissingWeightsError, match=r"do not fit 'synclr_vit_b_16': of \d+ expected .*missing"):
        build_encoder("synclr_vit_b_16", str(tmp_path), device=CPU)


def test_a_clip_of_another_resolution_is_refused_not_resized(tmp_path):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu", force_image_size=64)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "small.safetensors")
    with pytest.raises(MissingWeightsError, match=r"visual.positional_embedding \[5, 768\] instead of \[50, 768\]"):
        build_encoder("clip_vit_b_32", str(tmp_path / "small.safetensors"), device=CPU)
