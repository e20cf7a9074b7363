"""The fast MLP equals the plain one: value and every gradient, on each of its routes."""

import math

import pytest
import torch
from torch.nn import functional as F

from robot_rl import ensemble, hidden
from robot_rl.compiled import library
from robot_rl.ensemble import EnsembleMLP, product
from robot_rl.errors import ConfigError, UnknownNameError
from robot_rl.hidden import ACTIVATIONS, NORM_EPS

PLAIN = {"tanh": torch.tanh, "silu": F.silu, "relu": F.relu}


def plain(network, activation, *inputs):
    """The same MLP in ordinary PyTorch, from its stacked parameters."""
    value, parameters = torch.cat(inputs, -1).unsqueeze(0), list(network.layers)
    while len(parameters) >= 4:
        (weight, bias, scale, shift), parameters = parameters[:4], parameters[4:]
        value = value @ weight + bias
        value = PLAIN[activation](F.layer_norm(value, value.shape[-1:], eps=NORM_EPS) * scale + shift)
    return value @ parameters[0] + parameters[1] if parameters else value


def make(members, outputs, activation, dtype):
    torch.manual_seed(0)
    network = EnsembleMLP(members, 57, (40, 24), outputs, activation).to(dtype)
    with torch.no_grad():
        for parameter in network.layers:
            parameter.add_(0.1 * torch.randn_like(parameter))
    inputs = [torch.randn(48, size, dtype=dtype, requires_grad=True) for size in (37, 20)]
    return network, inputs


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("members", "outputs"), [(3, 2), (1, None), (2, 1), (2, 30)])
def test_equals_plain_pytorch_with_all_gradients(dtype, tolerance, activation, members, outputs):
    network, inputs = make(members, outputs, activation, dtype)
    fast, slow = network(*inputs), plain(network, activation, *inputs)
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
    sources = [*inputs, *network.layers]
    direction = torch.randn_like(slow)
    for one, two in zip(
        torch.autograd.grad(fast, sources, direction), torch.autograd.grad(slow, sources, direction), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=tolerance * 10, atol=tolerance * 10)
    with torch.no_grad():
        torch.testing.assert_close(network(*inputs), slow, rtol=tolerance, atol=tolerance)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    network = EnsembleMLP(2, 3, (4,), 2, "silu").double()
    inputs = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value, *_: network(value), (inputs, *network.layers))


@pytest.mark.parametrize("shape", [(2, 48, 40, 24), (1, 48, 40, 24), (2, 1, 40, 24), (2, 48, 40, 1), (2, 48, 3, 24)])
@pytest.mark.parametrize("shared", [True, False])
def test_product_is_right_on_every_route(shape, shared, monkeypatch):
    members, rows, inputs, outputs = shape
    torch.manual_seed(0)
    left = torch.randn(1 if shared else members, rows, inputs)
    right, bias = torch.randn(members, inputs, outputs), torch.randn(members, 1, outputs)
    expected = left @ right + bias
    transposed = right.mT.contiguous().mT  # the backward pass hands in views
    for weight in (right, transposed):
        torch.testing.assert_close(product(left, weight, bias), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(product(left, weight), expected - bias, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(ensemble, "_onednn_linear", None)
    torch.testing.assert_close(product(left, right, bias), expected, rtol=1e-4, atol=1e-4)


def test_a_frozen_network_computes_the_gradient_of_its_inputs_alone(monkeypatch):
    network, (features, action) = make(2, 1, "tanh", torch.float32)
    value = network(features.detach(), action, frozen=True)
    calls = []

    def counting(left, right, bias=None):
        calls.append((left.shape, right.shape))
        return product(left, right, bias)

    monkeypatch.setattr(ensemble, "product", counting)
    (gradient,) = torch.autograd.grad(value.sum(), action)
    # output to second layer, second to first, first to the action's 20 rows: no weight gradients, no features
    assert [tuple(right[1:]) for _, right in calls] == [(1, 24), (24, 40), (40, 20)]
    (expected,) = torch.autograd.grad(plain(network, "tanh", features, action).sum(), action)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_unknown_activation_lists_the_valid_ones():
    with pytest.raises(UnknownNameError, match="relu, silu, tanh"):
        EnsembleMLP(1, 3, (4,), 1, "gelu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_compiled_and_plain_hidden_layers_agree(activation, monkeypatch):
    if library() is None:
        pytest.skip("no compiler here")
    network, inputs = make(3, 2, activation, torch.float32)
    sources = [*inputs, *network.layers]

    def run():
        value = network(*inputs)
        return [value, *torch.autograd.grad(value.square().sum(), sources)]

    compiled = run()
    monkeypatch.setattr(hidden, "library", lambda: None)
    for one, two in zip(compiled, run(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_compiled_activations_hold_at_both_ends_and_keep_nan(activation):
    rows = torch.tensor([[0.0, 1e-30, 1.0, -1.0, 100.0, -100.0, 3e3, -3e3]]).view(1, 1, 8)
    one, zero = torch.ones(1, 1, 8), torch.zeros(1, 1, 8)
    after, _, _ = hidden.forward(torch.zeros(1, 1, 8), zero, one, rows, ACTIVATIONS[activation], keep=False)
    torch.testing.assert_close(after, PLAIN[activation](rows), rtol=1e-5, atol=1e-6)
    after, _, _ = hidden.forward(rows * math.nan, zero, one, zero, ACTIVATIONS[activation], keep=False)
    assert after.isnan().all()


def test_a_gradient_in_another_memory_layout_is_neither_misread_nor_changed():
    network, inputs = make(2, None, "tanh", torch.float32)
    direction = torch.randn(2, 24, 48).mT
    kept = direction.clone()
    fast, slow = network(*inputs), plain(network, "tanh", *inputs)
    found, expected = (torch.autograd.grad(value, inputs, direction) for value in (fast, slow))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(direction, kept)


@pytest.mark.parametrize("hidden", [[], [0], [8, -1]])
def test_networks_without_hidden_layers_are_refused(hidden):
    with pytest.raises(ConfigError, match="hidden needs a layer"):
        EnsembleMLP(2, 3, hidden, 1)
