"""Weights from files: no pickled code runs, and what does not fit is listed."""

import pytest
import torch
from safetensors.torch import save_file

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.state_dicts import find_checkpoint, load_file_strictly, load_strictly, read_state_dict
from gmail_kedro.models.registry import MissingWeightsError

from ..tiny import save_synclr

CPU = torch.device("cpu")


class Runs:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 1}, lambda s: {"model": s}])
def test_wrappers_and_prefixes_come_off(tmp_path, wrap):
    torch.save(wrap({"module._orig_mod.a": torch.ones(2, dtype=torch.float16)}), tmp_path / "x.pt")
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
        match=r"6 of 8 tensors missing \(1.bias, 1.weight, 2.bias, ...\), 1 unexpected \(extra\), "
        r"1 of another shape \(0.weight \[3, 2\] instead of \[2, 2\]\). Give the whole weights of this model",
    ):
        load_strictly("x", model, state, source="here")


def test_a_folder_leads_to_its_one_checkpoint(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no .safetensors or .pt file is there"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"))
    torch.save({}, tmp_path / "b.pt")
    assert find_checkpoint("x", tmp_path, (".safetensors", ".pt")).name == "b.pt"
    torch.save({}, tmp_path / "c.pt")
    with pytest.raises(MissingWeightsError, match="holds several: b.pt, c.pt"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"))
    torch.save({}, tmp_path / "own.pt")
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert find_checkpoint("x", tmp_path, (".safetensors", ".pt"), own="own").name == "own.pt"
    (tmp_path / "own.pt").write_bytes((tmp_path / "own.pt").read_bytes()[:100])
    with pytest.raises(MissingWeightsError, match="own.pt is damaged or cut short"):
        find_checkpoint("x", tmp_path, (".safetensors", ".pt"), own="own")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_of_a_wrapper_are_called_so(prefix):
    model = torch.nn.Linear(2, 2)
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    with pytest.raises(
        MissingWeightsError, match=r"2 of 2 tensors missing .*2 unexpected .*take module. or _orig_mod."
    ):
        load_strictly("x", model, state, source="here")


def test_a_file_that_does_not_fit_is_named(tmp_path):
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "head.safetensors")
    with pytest.raises(MissingWeightsError, match=r"head.safetensors do not fit 'x \(its head\)': 1 of 2 .*\(bias\)"):
        load_file_strictly("x (its head)", torch.nn.Linear(2, 2), tmp_path / "head.safetensors")
    (tmp_path / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(MissingWeightsError, match=r"could not be loaded from .*head.safetensors"):
        load_file_strictly("x (its head)", torch.nn.Linear(2, 2), tmp_path / "head.safetensors")


def test_weights_of_another_size_are_refused(tmp_path):
    save_synclr(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(MissingWeightsError, match=r"do not fit 'synclr_vit_b_16': \d+ of \d+ tensors missing"):
        build_encoder("synclr_vit_b_16", str(tmp_path), device=CPU)


def test_a_clip_of_another_resolution_is_refused_not_resized(tmp_path):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu", force_image_size=64)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "small.safetensors")
    with pytest.raises(MissingWeightsError, match=r"visual.positional_embedding \[5, 768\] instead of \[50, 768\]"):
        build_encoder("clip_vit_b_32", str(tmp_path / "small.safetensors"), device=CPU)
