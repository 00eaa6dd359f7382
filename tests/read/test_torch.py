"""torch modules: read right, left alone, or refused."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from cases import CASES
from gatewise.errors import ModelError, UnsupportedLayer
from gatewise.ir.network import breaker
from gatewise.read import read
from gatewise.read.torch import read_torch

X = torch.ones(2, 4)


@pytest.fixture(params=CASES.values(), ids=lambda c: c.name)
def case(request):
    return request.param


def test_every_case_computes_what_the_module_computes(case):
    module = case.module()
    network = read_torch(module, case.rows(2))
    x = case.rows(50).double() * 2
    with torch.no_grad():
        expected = copy.deepcopy(module).double().eval()(x).flatten(1)
    torch.testing.assert_close(network.predict(x), expected, rtol=1e-12, atol=1e-12)
    assert network.input_shape == (1, *case.shape)
    assert any(n.startswith("checked against the torch module on 24") for n in network.notes)


def test_every_case_is_piecewise_affine_or_names_what_is_not(case):
    assert (breaker(read_torch(case.module(), case.rows(2))) is None) == case.pieces


def test_nodes_keep_the_modules_names():
    case = CASES["nested_sequential"]
    names = [n.name for n in read_torch(case.module()).nodes]
    assert names[:5] == ["0.0", "0.1", "1.0", "1.1.0", "1.1.1"]
    case = CASES["reused_relu"]
    assert [n.name for n in read_torch(case.module()).nodes] == [
        "body.0", "body.1", "body.2", "relu", "add", "relu#2", "head",
    ]  # fmt: skip
    names = [n.name for n in read_torch(CASES["functional_relu"].module()).nodes]
    assert names == ["layers.0", "relu", "layers.1", "relu#2", "layers.2", "clamp", "head"]


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys, gatewise.read, gatewise.read.check, gatewise.read.files\n"
        "heavy = ['onnx', 'sklearn', 'skorch', 'torch._dynamo', 'torch._inductor']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the user's module is left alone --


def state_of(module: nn.Module) -> dict:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        "values": {n: t.detach().clone() for n, t in tensors},
        "ids": {n: (id(t), t.data_ptr(), t.dtype, t.requires_grad, t.device) for n, t in tensors},
        "grads": {n: None if t.grad is None else t.grad.clone() for n, t in tensors},
        "modes": [m.training for m in module.modules()],
        "hooks": [list(m._forward_hooks.items()) + list(m._forward_pre_hooks.items())
                  + list(m._backward_hooks.items()) for m in module.modules()],
        "vars": [sorted(vars(m)) for m in module.modules()],
    }  # fmt: skip


def same(a: dict, b: dict) -> bool:
    for key in ("values", "grads"):
        for name, value in a[key].items():
            other = b[key][name]
            if (value is None) != (other is None):
                return False
            if value is not None and not torch.equal(value, other):
                return False
    return all(a[key] == b[key] for key in ("ids", "modes", "hooks", "vars"))


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_not_changed(case, training):
    module = case.module().train(training)
    module(case.rows(4)).sum().backward()
    module.register_forward_hook(lambda *_: None)
    module.register_full_backward_hook(lambda *_: None)
    before, example = state_of(module), case.rows(2)
    given = example.clone()
    read_torch(module, example)
    assert same(before, state_of(module))
    assert torch.equal(example, given)


def test_nothing_global_is_changed():
    with torch.random.fork_rng(devices=[]):

        def state():
            return (torch.get_rng_state().tolist(), torch.get_default_dtype(),
                    torch.is_grad_enabled(), torch.get_num_threads())  # fmt: skip

        before = state()
        read_torch(CASES["train_mode"].module())
        assert state() == before


def test_the_check_that_the_module_is_the_same_can_fail():
    module = CASES["train_mode"].module()
    before = state_of(module)
    module(CASES["train_mode"].rows(4))  # moves the running statistics
    assert not same(before, state_of(module))


def test_later_training_does_not_reach_the_network():
    module = CASES["mlp"].module()
    network = read_torch(module)
    x = CASES["mlp"].rows(3)
    before = network(x)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2)
    assert torch.equal(network(x), before)


def test_train_mode_is_read_as_eval_and_said():
    notes = read_torch(CASES["train_mode"].module()).notes
    assert notes[0].startswith("the module was in train mode and was read as in eval")
    assert "train mode" not in " ".join(read_torch(CASES["train_mode"].module().eval()).notes)


def test_hooks_that_only_look_run_once_and_see_no_fakes():
    module, seen = CASES["mlp"].module(), []
    module[1].register_forward_hook(lambda m, i, o: seen.append(o))
    notes = read_torch(module).notes
    assert "forward hooks on '1' were run once and do not change the output" in notes
    assert [type(o) for o in seen] == [Tensor]


def test_a_hook_that_changes_the_output_is_refused():
    module = CASES["mlp"].module()
    module[1].register_forward_hook(lambda m, i, o: o * 2)
    with pytest.raises(UnsupportedLayer, match="forward hook on '1' changes what the module"):
        read_torch(module)


def legacy_weight_norm() -> nn.Module:
    layer = nn.Linear(4, 4)
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(layer)
    return layer


def pruned() -> nn.Module:
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)


@pytest.mark.parametrize(
    "make",
    [
        legacy_weight_norm,
        pruned,
        lambda: spectral_norm(nn.Linear(4, 4)),
        lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
        lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    ],
)
def test_weights_that_torch_computes(make):
    module = nn.Sequential(make(), nn.ReLU()).eval()
    x = torch.randn(5, 4)
    expected = module(x).detach()
    hooks = len(module[0]._forward_pre_hooks)
    network = read_torch(module, x)
    torch.testing.assert_close(network(x).float(), expected)
    assert len(module[0]._forward_pre_hooks) == hooks


def test_wrappers_are_looked_through():
    module = CASES["mlp"].module()
    for wrapped in (torch.compile(module), nn.DataParallel(module)):
        assert [n.name for n in read_torch(wrapped).nodes] == ["0", "1", "2"]


def test_half_precision_is_read_in_float64():
    module = CASES["mlp"].module().to(torch.bfloat16)
    network = read_torch(module)
    assert network.dtype == torch.float64
    assert next(module.parameters()).dtype == torch.bfloat16


class Casts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x.float()))


def test_a_module_that_casts_to_float32_is_checked_in_float32():
    notes = read_torch(Casts(), torch.randn(2, 4)).notes
    assert "the module rounds to float32 itself, so it was read and checked in float32" in notes
    assert "in float32" in notes[-1]


class OneRow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).view(1, 4)


def test_a_module_for_one_row_is_checked_row_by_row():
    assert "takes one row at a time" in read_torch(OneRow(), torch.randn(1, 4)).notes[-1]


class Attributes(nn.Module):
    """Tensors that are not registered, one of them made by autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scale, self.made = torch.rand(4), self.layer.weight * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale + x @ self.made / math.sqrt(3)


def test_plain_attributes():
    module, x = Attributes(), torch.randn(3, 4)
    torch.testing.assert_close(read_torch(module, x)(x).float(), module(x).detach())


def test_transformer_layer():
    module = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    x = torch.randn(3, 5, 4)
    network = read_torch(module, x)
    torch.testing.assert_close(network(x).float(), module(x).detach().flatten(1))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"logits": y, "gates": F.relu(y)}


def test_outputs_are_picked_by_name_or_position():
    module, x = Two(), torch.randn(3, 4)
    for name in ("logits", "gates"):
        network = read(module, x, output=name)
        torch.testing.assert_close(network(x).float(), module(x)[name].detach())
    as_tuple = Tuple()
    torch.testing.assert_close(read(as_tuple, x, output=1)(x).float(), as_tuple(x)[1].detach())


class Tuple(Two):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(super().forward(x).values())


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_unused_parameters_are_noted_and_tied_ones_are_not():
    notes = read_torch(Unused(), torch.randn(2, 4)).notes
    assert "parameters that the output does not use: spare.weight, spare.bias" in notes
    assert "does not use" not in " ".join(read_torch(CASES["tied_weights"].module()).notes)


def test_the_shape_is_told_by_the_first_linear_layer():
    assert read(nn.Sequential(nn.Flatten(), nn.Linear(7, 2))).input_shape == (1, 7)
    with pytest.raises(ModelError, match=r"cannot be told from its layers \(Conv2d first\)"):
        read(nn.Sequential(nn.Conv2d(1, 2, 3)))


EXAMPLES = [[[1.0, 2, 3, 4]], X.numpy().copy(), (X,), X.clone().requires_grad_()]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_several_kinds(example):
    assert read(nn.Linear(4, 2), example).inputs == 4


def test_dtype_device_and_names():
    network = read(nn.Linear(3, 2), dtype="float32", feature_names=["a", "b", "c"],
                   output_names=["no", "yes"])  # fmt: skip
    assert {network.dtype, network.node("linear").kind.weights[0].dtype} == {torch.float32}
    assert network.feature_names == ("a", "b", "c") and network.output_names == ("no", "yes")
    double = read(nn.Linear(3, 2))
    assert read(double) is double


def test_an_exported_program_is_read():
    case = CASES["pooled_view"]
    module, x = case.module().eval(), case.rows(3)
    dims = ({0: torch.export.Dim("rows")},)
    network = read(torch.export.export(module, (x,), dynamic_shapes=dims))
    torch.testing.assert_close(network(x).float(), module(x).detach())


def test_skorch_by_duck_typing():
    skorch = pytest.importorskip("skorch")
    x = torch.randn(20, 4).numpy()
    net = skorch.NeuralNetRegressor(lambda: nn.Linear(4, 1), max_epochs=1, verbose=0)
    with pytest.raises(ModelError, match="not fitted yet"):
        read(net)
    net.fit(x, x[:, :1])
    network = read(net)
    torch.testing.assert_close(network(x).float(), torch.as_tensor(net.predict(x)))
    assert "skorch" in network.notes[-1]


# -- numbers that are not there, or are none --


def broken(value: float, where: str) -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    module.state_dict()[where].view(-1)[0] = value
    return module


@pytest.mark.parametrize("where", ["0.weight", "3.bias", "2.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_parameter_that_is_not_finite_is_named(where, value):
    module = broken(value, where)
    words = f"the parameter '{where}' holds NaN or infinity: check how the model was trained"
    with pytest.raises(ModelError, match=words):
        read(module, X)
    with pytest.raises(ModelError, match=words):
        read(torch.export.export(module, (X,)))


def test_a_buffer_of_nan_is_named():
    with pytest.raises(ModelError, match=r"the constant '2.running_mean' holds NaN"):
        read(broken(math.nan, "2.running_mean"), X)


def test_a_weight_that_torch_makes_nan_is_named_by_its_node():
    module = nn.Sequential(nn.Linear(4, 4), parametrizations.weight_norm(nn.Linear(4, 2))).eval()
    module[1].parametrizations.weight.original1.data[0] = 0  # 0 / 0
    with pytest.raises(ModelError, match=r"'1.linear' \(Linear\) holds NaN or infinity"):
        read(module, X)


def test_a_mask_of_infinities_is_read():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("mask", torch.tensor([0.0, 0.0, -math.inf, 0.0]))

        def forward(self, x):
            return torch.softmax(self.layer(x) + self.mask, 1) @ torch.ones(4, 2).to(x)

    module, x = Masked().eval(), torch.randn(5, 4)
    torch.testing.assert_close(read(module, X)(x).float(), module(x).detach())


def test_the_meta_device_holds_no_numbers():
    words = "'(weight|bias)' is on the meta device, .*: materialise the module and load its weights"
    with pytest.raises(ModelError, match=words):
        read(nn.Linear(4, 2, device="meta"), X)
    exported = torch.export.export(nn.Linear(4, 2, device="meta"), (X.to("meta"),))
    with pytest.raises(ModelError, match=words):
        read(exported)


# -- what an operator gives beside its values; the eps of a type --


class Positions(nn.Module):
    def __init__(self, pool: bool, position: bool):
        super().__init__()
        self.layer, self.pool = nn.Linear(4, 4), nn.MaxPool1d(2, return_indices=True)
        self.pools, self.position = pool, position

    def forward(self, x):
        y = self.layer(x).unsqueeze(1)
        values, where = self.pool(y) if self.pools else y.max(1)
        return (values + where if self.position else values).flatten(1)


@pytest.mark.parametrize("pool", [False, True])
def test_positions_of_maxima_are_refused_by_name_where_they_are_used(pool):
    with pytest.raises(UnsupportedLayer, match=r"node '.*getitem'.*element 1 of what '(max|poo)"):
        read(Positions(pool, position=True), X)
    module, x = Positions(pool, position=False), torch.randn(5, 4)
    torch.testing.assert_close(read(module, X)(x).float(), module(x).detach())


class Roots(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), norm

    def forward(self, x):
        return self.norm(self.layer(x) * 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.RMSNorm(4),
        lambda: nn.RMSNorm(4, elementwise_affine=False),
        lambda: lambda x: F.rms_norm(x, (4,)),
    ],
)
def test_rms_norm_takes_the_eps_of_the_modules_own_type(make, dtype, tmp_path):
    """At values whose square is about the eps of float32, that of float64 gives other numbers."""
    torch.manual_seed(0)
    module, x = Roots(make()).to(dtype), torch.randn(20, 4, dtype=dtype)
    expected = module(x).detach()
    exported = torch.export.export(module, (x[:1],))
    torch.export.save(exported, tmp_path / "m.pt2")
    for source in (module, exported, str(tmp_path / "m.pt2")):
        found = read(source, x[:2])(x).to(dtype)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
