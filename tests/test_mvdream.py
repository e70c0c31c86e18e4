"""MVDream's files give a prior whose three networks compute what the original's do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.errors import ModelError, RequestError
from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.multiview import pose_turn, ring_order
from backend.render.cameras import orbit, pose_vectors
from backend.render.views import object_views
from tests.mvdream_checkpoint import write_checkpoint, write_tokenizer
from tests.small_models import write_small_models

CPU = torch.device("cpu")
ORIGIN = torch.zeros(3)
TOLERANCE = 1e-4
DENOISER = "model.diffusion_model."


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder in the original's layout, and what the original computes with it."""
    folder = tmp_path_factory.mktemp("original")
    numbers = write_checkpoint(folder / "sd-v2.1-base-4view.safetensors")
    write_tokenizer(folder / "tokenizer", 96)
    return folder, numbers


@pytest.fixture(scope="module")
def prior(original) -> DiffusionPrior:
    return load_prior(original[0], CPU)


def tensor(numbers: dict[str, np.ndarray], name: str) -> torch.Tensor:
    return torch.from_numpy(numbers[name])


def poses_at(azimuth_deg: torch.Tensor, elevation_deg: torch.Tensor) -> torch.Tensor:
    """Our pose vectors (B, 16) for cameras at these angles, at any distance and field of view."""
    away, fov_deg = torch.full_like(azimuth_deg, 2.5), torch.full_like(azimuth_deg, 40.0)
    return pose_vectors(orbit(azimuth_deg, elevation_deg, away, fov_deg, ORIGIN), ORIGIN)


def ring(count: int, start_deg: float = 20.0) -> torch.Tensor:
    """Poses (B, 16) of an even ring of views."""
    azimuth_deg = start_deg + torch.arange(count) * 360.0 / count
    return poses_at(azimuth_deg, torch.full((count,), 15.0))


def predicted(prior: DiffusionPrior, numbers: dict[str, np.ndarray], poses: torch.Tensor) -> torch.Tensor:
    text = tensor(numbers, "text").repeat_interleave(4, 0)
    return prior.predict_noise(tensor(numbers, "latents"), tensor(numbers, "timesteps"), text, poses)


def original_poses(numbers: dict[str, np.ndarray]) -> torch.Tensor:
    """The fixture's cameras as ours: our front, azimuth 0, is the original's azimuth 90."""
    return poses_at(tensor(numbers, "azimuth_deg") - 90.0, tensor(numbers, "elevation_deg"))


def test_the_denoiser_predicts_what_the_original_does(original, prior) -> None:
    noise = predicted(prior, original[1], original_poses(original[1]))
    assert (noise - tensor(original[1], "noise")).abs().max() < TOLERANCE


def test_our_cameras_a_quarter_turn_on_are_the_originals(original) -> None:
    turned = original_poses(original[1]) @ pose_turn().T
    assert (turned - tensor(original[1], "cameras")).abs().max() < 1e-5


def test_the_text_encoder_gives_the_originals_penultimate_layer(original, prior) -> None:
    with torch.no_grad():
        text = prior.text_encoder(tensor(original[1], "token_ids")).last_hidden_state
    assert (text - tensor(original[1], "text")).abs().max() < TOLERANCE


def test_the_autoencoder_encodes_and_decodes_as_the_original(original, prior) -> None:
    numbers = original[1]
    latents = prior.encode(tensor(numbers, "pictures").permute(0, 2, 3, 1) / 2 + 0.5) / 0.18215
    assert (latents - tensor(numbers, "encoded")).abs().max() < TOLERANCE
    pictures = prior.decode(tensor(numbers, "encoded") * 0.18215)
    assert (pictures - (tensor(numbers, "decoded").permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)).abs().max() < TOLERANCE


def test_the_same_tensors_in_the_ports_folder_give_the_same_prior(original, prior, tmp_path) -> None:
    noise = predicted(load_prior(write_port(tmp_path / "port", original[0], prior), CPU), original[1], ring(8))
    torch.testing.assert_close(noise, predicted(prior, original[1], ring(8)))


def test_a_torch_file_of_the_same_tensors_gives_the_same_prior(original, prior, tmp_path) -> None:
    torch.save({"state_dict": original_tensors(original[0])}, tmp_path / "model.pt")
    shutil.copytree(original[0] / "tokenizer", tmp_path / "tokenizer")
    noise = predicted(load_prior(tmp_path / "model.pt", CPU), original[1], ring(8))
    torch.testing.assert_close(noise, predicted(prior, original[1], ring(8)))


def test_the_dtype_is_that_asked_for(original, prior) -> None:
    half = load_prior(original[0], CPU, torch.bfloat16)
    assert half.unet.dtype == half.vae.dtype == half.text_encoder.dtype == torch.bfloat16


def test_views_of_one_object_see_each_other_and_not_the_other_object(original, prior) -> None:
    numbers, poses = dict(original[1]), original_poses(original[1])
    before = predicted(prior, numbers, poses)
    numbers["latents"] = numbers["latents"].copy()
    numbers["latents"][0] += 1
    change = (predicted(prior, numbers, poses) - before).abs().amax(dim=(1, 2, 3))
    assert (change[:4] > 1e-3).all()
    assert (change[4:] < 1e-5).all()


def test_the_camera_changes_the_prediction(original, prior) -> None:
    poses = original_poses(original[1])
    turned = poses_at(tensor(original[1], "azimuth_deg") - 50.0, tensor(original[1], "elevation_deg"))
    assert (predicted(prior, original[1], turned) - predicted(prior, original[1], poses)).abs().max() > 1e-2


def test_a_ring_of_eight_is_denoised_as_two_rings_of_four(original, prior) -> None:
    interleaved = ring(8)
    apart = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    numbers = dict(original[1])
    numbers["timesteps"] = np.full(8, 300)
    numbers["text"] = np.repeat(numbers["text"][:1], 2, 0)
    together = predicted(prior, numbers, interleaved)
    numbers["latents"] = numbers["latents"][apart]
    torch.testing.assert_close(predicted(prior, numbers, interleaved[apart]), together[apart], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("views", [4, 8, 12, 16])
def test_guided_batches_are_grouped_into_views_90_degrees_apart(views) -> None:
    poses = ring(views).repeat(2, 1)  # conditional and unconditional
    order = ring_order(poses).view(-1, 4)
    assert sorted(order.flatten().tolist()) == list(range(2 * views))
    assert ((order // views) == (order // views)[:, :1]).all(), "a group mixes conditional and unconditional"
    assert ((order % (views // 4)) == (order % (views // 4))[:, :1]).all()


@pytest.mark.parametrize("views", [1, 2, 3, 5, 6, 10])
def test_views_that_are_no_multiple_of_four_are_refused(views) -> None:
    with pytest.raises(RequestError, match="rings of four") as caught:
        ring_order(ring(views).repeat(2, 1))
    assert caught.value.where == "settings.views"


def test_objects_are_shown_from_the_elevations_it_was_trained_on_and_to_other_priors_from_more(prior, tmp_path) -> None:
    other, generator = load_prior(write_small_models(tmp_path)[0], CPU), torch.Generator().manual_seed(0)
    seen = [
        torch.cat([object_views(4, generator, CPU, p.elevation_deg).elevation_deg[:1] for _ in range(200)])
        for p in (prior, other)
    ]
    assert 0.0 <= seen[0].min() < 3.0 and 27.0 < seen[0].max() <= 30.0
    assert seen[1].min() < -5.0 and seen[1].max() > 70.0


def test_a_single_picture_is_refused(original, prior) -> None:
    with pytest.raises(RequestError, match="not single pictures"):
        predicted(prior, original[1], None)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (DENOISER + "camera_embed.0.weight", "no camera_embed"),
        (DENOISER + "out.0.bias", "1 tensors are missing, the first is conv_norm_out.bias"),
        (DENOISER + "input_blocks.2.0.in_layers.2.weight", "residual blocks are missing"),
        (DENOISER + "middle_block.1.proj_in.weight", "no tensor 'middle_block.1.proj_in.weight'"),
        ("first_stage_model.decoder.conv_in.bias", "1 tensors are missing, the first is decoder.conv_in.bias"),
        ("cond_stage_model.model.ln_final.bias", "no tensor 'ln_final.bias'"),
        ("cond_stage_model.", r"has tensors cond_stage_model.model.\*"),
    ],
)
def test_a_checkpoint_that_lacks_tensors_is_refused(original, tmp_path, lost, message) -> None:
    tensors = {key: value for key, value in original_tensors(original[0]).items() if not key.startswith(lost)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        load_prior(tmp_path / "model.safetensors", CPU)
    assert caught.value.where.endswith("model.safetensors")


def test_a_tensor_of_another_shape_is_refused(original, tmp_path) -> None:
    tensors = original_tensors(original[0])
    tensors[DENOISER + "out.0.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"conv_norm_out.bias has shape \[7\], not \[64\]"):
        load_prior(tmp_path / "model.safetensors", CPU)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_cut_short_is_refused(original, tmp_path, suffix) -> None:
    whole = tmp_path / f"whole{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(original_tensors(original[0]), whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ModelError, match="the checkpoint cannot be loaded"):
        load_prior(cut, CPU)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Trap()}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="the checkpoint cannot be loaded"):
        load_prior(tmp_path / "model.pt", CPU)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_without_its_tokenizer_says_where_to_get_one(original, tmp_path) -> None:
    shutil.copy(next(original[0].glob("*.safetensors")), tmp_path)
    with pytest.raises(ModelError, match=r"no tokenizer beside the checkpoint.*stable-diffusion-2-1-base"):
        load_prior(tmp_path, CPU)


def test_a_tokenizer_of_another_model_is_refused(original, tmp_path) -> None:
    shutil.copy(next(original[0].glob("*.safetensors")), tmp_path)
    write_tokenizer(tmp_path / "tokenizer", 70)
    with pytest.raises(ModelError, match="it has 70 tokens, the checkpoint 96"):
        load_prior(tmp_path, CPU)


def test_a_folder_of_several_checkpoints_asks_for_one(tmp_path) -> None:
    for name in ("sd-v1.5-4view.pt", "sd-v2.1-base-4view.pt"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"several checkpoints: sd-v1.5-4view.pt, sd-v2.1-base-4view.pt"):
        load_prior(tmp_path, CPU)


def test_a_port_of_imagedream_is_refused(original, prior, tmp_path) -> None:
    port = write_port(tmp_path / "port", original[0], prior)
    config = json.loads((port / "unet" / "config.json").read_text())
    (port / "unet" / "config.json").write_text(json.dumps({**config, "ip_dim": 16}))
    with pytest.raises(ModelError, match="ImageDream"):
        load_prior(port, CPU)


def original_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(folder.glob("*.safetensors")))


def write_port(port: Path, folder: Path, prior: DiffusionPrior) -> Path:
    """The original's tensors as the port stores them: the denoiser's under their own names, the rest as diffusers'."""
    for name in ("text_encoder", "vae", "scheduler", "tokenizer"):
        getattr(prior, name).save_pretrained(port / name)
    (port / "unet").mkdir()
    config = {"_class_name": "MultiViewUNetModel", "num_head_channels": 64, "camera_dim": 16, "ip_dim": 0}
    (port / "unet" / "config.json").write_text(json.dumps(config))
    tensors = {k.removeprefix(DENOISER): v for k, v in original_tensors(folder).items() if k.startswith(DENOISER)}
    save_file(tensors, port / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    (port / "model_index.json").write_text(json.dumps({"_class_name": "MVDreamPipeline"}))
    return port
