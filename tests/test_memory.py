"""Work in chunks: the same latents and the same gradient as all at once, fewer activations held; settings reach it."""

import pytest
import torch

from backend.guidance import models as scene
from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.memory import Turns, in_chunks
from backend.guidance.models import HEEDED, load_models, network_dtype
from backend.guidance.variational import VariationalScore
from backend.image import run as image
from backend.image.request import read_image_request
from backend.image.request import settings_for as image_settings_for
from backend.presets import PRESETS, settings_for
from backend.schema import Settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prior(folders) -> DiffusionPrior:
    return load_prior(folders[0], CPU)


def encoded(prior: DiffusionPrior, at_once: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of three pictures, and the gradient of a weighted sum of them in the pictures."""
    prior.encode_at_once = at_once
    pictures = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    latents = prior.encode(pictures)
    weights = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    return latents.detach(), torch.autograd.grad((latents * weights).sum(), pictures)[0]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_encoding_in_chunks_changes_neither_latents_nor_gradient(prior, at_once) -> None:
    for got, wanted in zip(encoded(prior, at_once), encoded(prior, 0), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_decoding_in_chunks_changes_nothing(prior) -> None:
    latents = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    prior.encode_at_once = 0
    wanted = prior.decode(latents)
    prior.encode_at_once = 2
    torch.testing.assert_close(prior.decode(latents), wanted, atol=1e-5, rtol=1e-4)


def test_only_one_chunk_s_activations_are_held() -> None:
    held = [0, 0]
    batch = torch.rand(8, 100).requires_grad_()
    for which, at_once in enumerate((0, 1)):

        def count(tensor: torch.Tensor, which: int = which) -> torch.Tensor:
            held[which] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            in_chunks(lambda x: x.sin().cos().exp().sigmoid(), batch, at_once)
    assert held[1] < held[0] / 2


def test_settings_reach_both_networks(folders) -> None:
    prior, vlm = (str(folder) for folder in folders)
    settings = settings_for("starter", {"prior": prior, "vlm": vlm, "encode_at_once": 2, "vlm_px": 64})
    models = load_models(settings, CPU)
    assert models.prior.encode_at_once == 2
    assert models.vlm.preprocessing.max_pixels == 64 * 64


class Read:
    """Settings that remember which of them were read."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.names = settings, set[str]()

    def __getattr__(self, name: str) -> object:
        self.names.add(name)
        return getattr(self.settings, name)


def test_every_setting_that_loading_reads_is_among_those_that_tell_networks_apart(folders) -> None:
    read = Read(settings_for("starter", dict(zip(("prior", "vlm"), map(str, folders), strict=True))))
    load_models(read, CPU)
    assert {"prior", "vlm", "vae_tile_px", "offload_idle"} <= read.names <= set(HEEDED)


@pytest.mark.parametrize(
    ("method", "heeded"), [("sds", image.HEEDED), ("reward-sds", image.HEEDED + image.HEEDED_TO_SCORE)]
)
def test_every_setting_that_loading_for_pictures_reads_is_among_those_too(folders, method, heeded) -> None:
    chosen = dict(zip(("prior", "vlm"), map(str, folders), strict=True))
    request = read_image_request({"prompt": "a red cube", "method": method, "settings": chosen})
    read = Read(image_settings_for(request))
    image.load_image_models(request, read, CPU)
    assert {"prior", "vae_tile_px"} <= read.names <= set(heeded)


def test_the_vlm_computes_in_bfloat16_beside_a_prior_in_float16(folders, monkeypatch) -> None:
    chosen, computes = dict(zip(("prior", "vlm"), map(str, folders), strict=True)), []
    for module in (scene, image):
        monkeypatch.setattr(module, "network_dtype", lambda name, device: torch.float16)  # as on a GPU
    load = image.load_vlm
    monkeypatch.setattr(image, "load_vlm", lambda *told: computes.append(told[2]) or load(*told))
    both = load_models(settings_for("starter", chosen), CPU)
    assert (both.prior.unet.dtype, both.vlm.network.dtype) == (torch.float16, torch.bfloat16)
    request = read_image_request({"prompt": "a red cube", "method": "reward-sds", "settings": chosen})
    picture = image.load_image_models(request, image_settings_for(request), CPU)
    assert (picture.prior.unet.dtype, computes) == (torch.float16, [torch.bfloat16])


def test_a_device_whose_networks_take_no_turns_has_them_all_from_the_start(folders) -> None:
    elsewhere = torch.device("meta")  # like MPS, neither the CPU nor CUDA
    prior, vlm = (str(folder) for folder in folders)
    models = load_models(settings_for("starter", {"prior": prior, "vlm": vlm, "offload_idle": True}), elsewhere)
    assert models.prior.unet.device == models.vlm.network.device == elsewhere


def test_the_cpu_always_computes_in_float32() -> None:
    settings = PRESETS["draft"]
    assert network_dtype(settings.network_dtype, CPU) == torch.float32
    assert network_dtype(settings.network_dtype, torch.device("cuda")) == torch.bfloat16


def held_for_the_gradient(prior: DiffusionPrior, pictures: torch.Tensor) -> int:
    """Numbers kept between encoding and its gradient, weights not counted."""
    weights, held = {p.data_ptr() for p in prior.vae.parameters()}, {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            held[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        latents = prior.encode(pictures.requires_grad_())
    assert latents.requires_grad
    return sum(held.values())


def test_tiles_hold_less_and_are_right_away_from_their_seams(folders) -> None:
    prior = load_prior(folders[0], CPU)
    pictures = torch.rand(1, 128, 192, 3, generator=torch.Generator().manual_seed(0))
    whole = held_for_the_gradient(prior, pictures.clone())
    prior.use_tiles(64)
    tiled = held_for_the_gradient(prior, pictures.clone())
    assert tiled < whole / 3
    latents = prior.encode(pictures)
    assert latents.shape == (1, 8, 32, 48)
    corner = prior.encode(pictures[:, :64, :64])
    torch.testing.assert_close(latents[:, :, :12, :12], corner[:, :, :12, :12], atol=1e-5, rtol=1e-4)
    assert prior.decode(latents).shape == pictures.shape


def test_pictures_no_larger_than_a_tile_are_encoded_as_without_tiles(folders) -> None:
    prior = load_prior(folders[0], CPU)
    wanted = encoded(prior, 0)
    prior.use_tiles(64)
    for got, expected in zip(encoded(prior, 0), wanted, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


class Moved(torch.nn.Module):
    """A network that remembers where it was sent, and stays on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def to(self, device: torch.device) -> "Moved":
        self.places.append(device.type)
        return self


def test_networks_take_turns_and_move_only_when_the_other_one_had_its_turn() -> None:
    turns, one, other = Turns(torch.device("cuda")), Moved(), Moved()
    use_one, use_other = turns.add([one]), turns.add([other])
    assert one.places == other.places == ["cpu"]
    for use in (use_one, use_one, use_other, use_other, use_one):
        use()
    assert one.places == ["cpu", "cuda", "cpu", "cuda"]
    assert other.places == ["cpu", "cuda", "cpu"]


def test_every_use_of_a_network_makes_it_ready_first(folders) -> None:
    settings = settings_for("starter", {"prior": str(folders[0]), "vlm": str(folders[1]), "offload_idle": True})
    models, calls = load_models(settings, CPU), []
    models.prior.make_ready = lambda: calls.append("prior")
    models.vlm.make_ready = lambda: calls.append("vlm")
    own = VariationalScore(models.prior, torch.Generator().manual_seed(0))
    assert calls.pop() == "prior"
    images, t, poses = torch.rand(1, 64, 64, 3), torch.tensor([500]), torch.zeros(1, 16)
    with torch.no_grad():
        text, latents = models.prior.encode_text(["a red cube"]), models.prior.encode(images)
    assert calls == ["prior"]
    uses = {
        "prior": [
            lambda: models.prior.predict_noise(latents, t, text, poses),
            lambda: own.predict_noise(latents, t, text, poses),
            lambda: own.learn(latents, text, text, poses),
        ],
        "vlm": [lambda: models.vlm.look(images), lambda: models.vlm.log_odds(images, ["is there a red cube"])],
    }
    for name, group in uses.items():
        for use in group:
            calls.clear()
            use()
            assert calls and set(calls) == {name}
