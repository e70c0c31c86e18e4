"""VSD's LoRA: the prior stays as it is, the LoRA learns what the samples are, and VSD with it keeps their spread."""

import copy

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from backend.guidance.diffusion import DiffusionPrior, load_prior
from backend.guidance.multiview import multi_view_unet
from backend.guidance.variational import VariationalScore
from backend.render.cameras import orbit, pose_vectors
from tests.small_models import write_small_models

CPU = torch.device("cpu")
UNET = dict(
    sample_size=16,
    in_channels=8,
    out_channels=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(16, 32),
    layers_per_block=1,
    cross_attention_dim=64,
    attention_head_dim=4,
    norm_num_groups=8,
)


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> DiffusionPrior:
    return load_prior(write_small_models(tmp_path_factory.mktemp("models"))[0], CPU)


@pytest.fixture(scope="module")
def without_cameras(prior) -> DiffusionPrior:
    """A denoiser of epsilon that takes no poses, as Stable Diffusion 1.5's."""
    torch.manual_seed(0)
    return DiffusionPrior(prior.tokenizer, prior.text_encoder, prior.vae, UNet2DConditionModel(**UNET), DDIMScheduler())


@pytest.fixture(scope="module")
def multi_view(prior) -> DiffusionPrior:
    """One that denoises four views together, as MVDream's."""
    torch.manual_seed(0)
    return DiffusionPrior(prior.tokenizer, prior.text_encoder, prior.vae, multi_view_unet(**UNET), DDIMScheduler())


def score_of(prior: DiffusionPrior, **settings) -> VariationalScore:
    return VariationalScore(prior, torch.Generator().manual_seed(0), **settings)


def inputs(prior: DiffusionPrior, count: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(count, prior.unet.config.in_channels, 8, 8, generator=generator),
        "t": torch.tensor([300, 700]).repeat(count)[:count],
        "text": prior.encode_text(["a red cube"] * count),
        "poses": torch.randn(count, 16, generator=generator),
    }


@pytest.mark.parametrize("name", ["prior", "without_cameras"])
def test_untrained_it_is_the_prior(request, name) -> None:
    prior = request.getfixturevalue(name)
    given = list(inputs(prior).values())
    torch.testing.assert_close(score_of(prior).predict_noise(*given), prior.predict_noise(*given))


@pytest.mark.parametrize("name", ["prior", "without_cameras"])
def test_learning_changes_the_score_and_leaves_the_prior(request, name) -> None:
    prior = request.getfixturevalue(name)
    before = {key: value.clone() for key, value in prior.unet.state_dict().items()}
    x = inputs(prior)
    score, empty = score_of(prior, lr=1e-2), prior.encode_text([""])
    for _ in range(2):
        score.learn(x["latents"], x["text"], empty, x["poses"])
    assert (score.predict_noise(*x.values()) - prior.predict_noise(*x.values())).abs().max() > 1e-3
    after = prior.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(p.requires_grad for p in prior.unet.parameters())


def test_the_frozen_weights_are_shared_and_few_are_trained(prior) -> None:
    score = score_of(prior)
    theirs = {p.data_ptr() for p in prior.unet.parameters()}
    frozen = [p for p in score.model.unet.parameters() if not p.requires_grad]
    assert {p.data_ptr() for p in frozen} == theirs
    assert sum(p.numel() for p in score.parameters) < 0.1 * sum(p.numel() for p in frozen)


def test_a_camera_embedding_of_its_own_is_learnt_where_the_prior_has_none(without_cameras) -> None:
    x, score = inputs(without_cameras), score_of(without_cameras, lr=1e-2, drop=0.0)
    empty = without_cameras.encode_text([""])
    for _ in range(3):
        score.learn(x["latents"], x["text"], empty, x["poses"])
    given = [x["latents"], x["t"], x["text"]]
    here, there = (score.predict_noise(*given, poses) for poses in (x["poses"], x["poses"].flip(0)))
    assert (here - there).abs().max() > 1e-4
    assert not without_cameras.knows_cameras


def test_dropped_samples_are_learnt_without_prompt(prior) -> None:
    x, empty = inputs(prior), prior.encode_text([""])
    dropped = score_of(prior, drop=1.0).loss(x["latents"], x["text"], empty, x["poses"])
    other = score_of(prior, drop=1.0).loss(x["latents"], x["text"] + 1, empty, x["poses"])
    kept = score_of(prior, drop=0.0).loss(x["latents"], x["text"] + 1, empty, x["poses"])
    assert dropped.item() == other.item() != kept.item()


def test_weights_in_half_precision_still_learn_in_single(without_cameras) -> None:
    prior = copy.deepcopy(without_cameras)
    prior.unet.bfloat16()
    x, score = inputs(prior), score_of(prior, lr=1e-5)
    before = {name: value.clone() for name, value in score.tensors().items()}
    score.learn(x["latents"], x["text"].bfloat16(), prior.encode_text([""]).bfloat16(), x["poses"])
    found = score.predict_noise(x["latents"], x["t"], x["text"].bfloat16(), x["poses"])
    assert found.isfinite().all()
    moved = [name for name, value in score.tensors().items() if not torch.equal(value, before[name])]
    assert any("lora_B" in name for name in moved) and any("class_embedding" in name for name in moved)


def test_a_lora_over_weights_in_float16_gets_the_gradient_of_float32_however_small_it_is(without_cameras) -> None:
    prior = copy.deepcopy(without_cameras)
    prior.unet.conv_out.weight.data *= 1e-3  # as in wide networks, one number in the middle counts for little
    x, text, empty = inputs(prior, 8), prior.encode_text(["a red cube"] * 8), prior.encode_text([""])
    single = score_of(prior)
    single.learn(x["latents"], text, empty, x["poses"])
    prior.unet.half()
    taught, untaught = score_of(prior), score_of(prior)
    taught.learn(x["latents"], text, empty, x["poses"])
    mean = torch.autograd.grad(untaught.loss(x["latents"], text, empty, x["poses"]), untaught.parameters)
    wanted, found, lost = (
        torch.cat([g.flatten() for g in each])
        for each in ([p.grad for p in single.parameters], [p.grad for p in taught.parameters], mean)
    )
    assert (found - wanted).norm() < 0.01 * wanted.norm()
    assert (lost - wanted).norm() > 0.1 * wanted.norm()


@pytest.mark.parametrize(("name", "draws"), [("multi_view", 1), ("prior", 4)])
def test_the_views_of_a_multi_view_prior_share_their_timestep_and_lose_their_prompt_together(
    request, name, draws
) -> None:
    prior = request.getfixturevalue(name)
    score, empty, x = score_of(prior, drop=0.5), prior.encode_text([""]), inputs(prior, 4)
    seen = []
    score.model.unet.register_forward_pre_hook(
        lambda unet, args, told: seen.append((args[1], told["encoder_hidden_states"])), with_kwargs=True
    )
    ones = torch.ones(4)
    cameras = orbit(torch.arange(4) * 90.0, 20 * ones, ones, 40 * ones, torch.zeros(3))
    for _ in range(12):
        score.learn(x["latents"], x["text"], empty, pose_vectors(cameras, torch.zeros(3)))
    lost = [sum(torch.equal(one, empty[0]) for one in text) for _, text in seen]
    assert max(len(t.unique()) for t, _ in seen) == draws
    assert {0, 4} >= set(lost) and len(set(lost)) == 2 if draws == 1 else {1, 2, 3} & set(lost)
    assert len({t[0].item() for t, _ in seen}) > 3


def test_the_loss_gives_the_samples_no_gradient(prior) -> None:
    x = inputs(prior)
    latents = x["latents"].requires_grad_()
    score_of(prior).loss(latents, x["text"], prior.encode_text([""]), x["poses"]).backward()
    assert latents.grad is None


def test_the_same_generator_gives_the_same_lora_whatever_the_global_one_is(prior) -> None:
    torch.manual_seed(1)
    one = score_of(prior).tensors()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two = score_of(prior).tensors()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_was_learnt_can_be_restored(prior) -> None:
    x, empty = inputs(prior), prior.encode_text([""])
    taught = score_of(prior, lr=1e-2)
    taught.learn(x["latents"], x["text"], empty, x["poses"])
    fresh = score_of(prior)
    fresh.restore({name: value.clone() for name, value in taught.tensors().items()})
    torch.testing.assert_close(fresh.predict_noise(*x.values()), taught.predict_noise(*x.values()))


def test_a_lesson_and_its_loss_lie_where_the_network_does(prior) -> None:
    elsewhere = torch.device("meta")  # refuses whatever comes from another device
    far = copy.deepcopy(prior)
    for part in (far.unet, far.text_encoder):
        part.to(elsewhere)
    far.alphas_cumprod = far.alphas_cumprod.to(elsewhere)
    score, x = score_of(far), inputs(prior)
    given = [x[name].to(elsewhere) for name in ("latents", "text", "poses")]
    loss = score.learn(given[0], given[1], far.encode_text([""]), given[2])
    assert loss.device == elsewhere and loss.shape == () and not loss.requires_grad


def test_a_network_that_waits_elsewhere_is_fetched_before_its_lora_is_made(prior) -> None:
    waiting = copy.deepcopy(prior)
    waiting.unet.to("meta")
    waiting.make_ready = lambda: waiting.unet.to_empty(device="cpu")
    score = score_of(waiting)
    assert score.model.alphas_cumprod.device == CPU
    assert {p.device for p in score.model.unet.parameters()} == {CPU}


def test_learning_brings_the_diffusion_loss_of_the_samples_down(without_cameras) -> None:
    latents = torch.full((4, 8, 8, 8), 1.5)
    text, empty = without_cameras.encode_text(["a red cube"] * 4), without_cameras.encode_text([""])
    score = score_of(without_cameras, lr=1e-2, rank=8)
    losses = [score.learn(latents, text, empty, None) for _ in range(32)]
    assert sum(losses[-8:]) < 0.97 * sum(losses[:8])
