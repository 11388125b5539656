import pickle

import pytest
import torch

from divaug.config.registry import LOSSES


@pytest.mark.parametrize("name", list(LOSSES.entries()))
class TestLoss:
    def test_one_finite_loss_a_row(self, name, facts):
        loss = LOSSES.build(name, facts=facts)
        for rows in (1, 2, 7):
            ids = torch.arange(rows) % 4
            for scale in (0.0, 1.0, 1e4, -1e4):
                logits = (scale * torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))).requires_grad_()
                values = loss(logits, ids)
                assert values.shape == (rows,) and values.dtype == torch.float32 and torch.isfinite(values).all()
                assert (values >= -1e-6).all()
                values.sum().backward()
                assert torch.isfinite(logits.grad).all()

    def test_gradient_in_float64(self, name, facts):
        loss = LOSSES.build(name, facts=facts).double()
        logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([0, 1, 2, 3, 0])), (logits,))

    def test_float32_under_autocast(self, name, facts):
        loss = LOSSES.build(name, facts=facts)
        logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
        with torch.autocast("cpu", torch.bfloat16):
            values = loss(logits.bfloat16(), torch.tensor([0, 1, 2, 3, 0]))
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, loss(logits.bfloat16().float(), torch.tensor([0, 1, 2, 3, 0])))

    def test_constants_are_buffers_and_it_pickles(self, name, facts):
        loss = LOSSES.build(name, facts=facts)
        again = pickle.loads(pickle.dumps(loss))
        logits = torch.randn(3, 4)
        assert torch.equal(loss(logits, torch.tensor([1, 2, 3])), again(logits, torch.tensor([1, 2, 3])))
        tensors = [v for v in vars(loss).values() if isinstance(v, torch.Tensor)]
        assert not tensors

    def test_rows_do_not_influence_one_another(self, name, facts, global_rngs_untouched):
        loss = LOSSES.build(name, facts=facts)
        logits = torch.linspace(-3, 3, 24).reshape(6, 4)
        ids = torch.tensor([0, 1, 2, 3, 0, 1])
        before = logits.clone()
        alone = torch.cat([loss(logits[i : i + 1], ids[i : i + 1]) for i in range(6)])
        torch.testing.assert_close(loss(logits, ids), alone)
        assert torch.equal(logits, before)
