"""Back-propagation through time (BPTT) in blocks, for any cell.

**The recurrence.** With its product by the recurrent weight written out, a step is

    a_t = u_t + h_{t-1} W            the pre-activation; u_t comes from the input x_t alone
    h_t, y_t = f(h_{t-1}, u_t, a_t)  pointwise work: gates, activations, what is held over

where h is the whole carry. (A step may have several products, or a convolution for one, and an
operand may be any function of the carry; nothing below changes.)

**Its derivative.** Write dv for the tangent of v, and J for the derivatives of f. A small change of
weights, inputs and first carry changes all that follows, step after step, by

    da_t       = du_t + h_{t-1} dW + dh_{t-1} W
    dh_t, dy_t = J_t (dh_{t-1}, du_t, da_t)

That is linear in dW, du and dh_0. The engine computes it, and says that it is the derivative
(`jax.custom_jvp`); JAX transposes it for a gradient. The transpose is back-propagation through
time. It starts at the last step and computes, with v̄ for the derivative of the loss by v,

    δ_t     = J_{a,t}ᵀ (h̄_t, ȳ_t)                the delta, ā_t
    h̄_{t-1} = J_{h,t}ᵀ (h̄_t, ȳ_t) + δ_t Wᵀ
    W̄       = Σ_t h_{t-1}ᵀ δ_t
    ū_t     = δ_t + J_{u,t}ᵀ (h̄_t, ȳ_t)

Of the first two lines, `dh_{t-1} W` and J alone are sequential: `du_t + h_{t-1} dW` is known before
the loop, for h_{t-1} is. So of the last four, the second alone is. The derivative that JAX takes of
`lax.scan` makes no use of that. It keeps all that a step computed, and adds to the whole of W̄ at
every step.

**One block.** Here time is cut into blocks of K steps. Of each step the forward pass keeps either
the carry or the pre-activation, and the carry before each block. B is the number of rows, the
batch. A block of the derivative, `tangent.py`, has three parts:

    kept          h_0      h_1      h_2   …  h_{K-1}
                   │        │        │          │
    1 rebuild      │× W     │× W     │× W       │× W           one product of K·B rows
                   ▼        ▼        ▼          ▼
                  a_1      a_2      a_3   …    a_K

    2 prepare   h_0 dW   h_1 dW   h_2 dW  … h_{K-1} dW         one product of K·B rows;
                 + du_1   + du_2   + du_3 …    + du_K          du likewise
                   │        │        │          │
                   ▼        ▼        ▼          ▼
    3 walk   dh_0 ─►  dh_1 ──► dh_2 ──►  …  ──► dh_K           a loop: J_t, and one product
                                                               dh_{t-1} W of B rows

and its transpose runs the blocks last to first, and in each: part 1; the loop of part 3 backwards,
with one product δ_t Wᵀ of B rows at a step; and the transpose of part 2, one product
`[h_0 … h_{K-1}]ᵀ [δ_1 … δ_K]` over K·B rows for W̄, likewise for the inputs and for the weights of
the projection. `jax.checkpoint` around a block and around a step says what the transpose computes
anew: part 1, and J_t at each step. If pre-activations were kept, part 1 computes the carries from
them, in a loop without products. `Checkpointed` keeps neither, and part 1 runs the block again.

Since every line is JAX's to evaluate, batch and transpose, all of its transformations hold, in any
order. Under `vmap` over the batch the transpose of part 2 is still one product for each weight.

**Cost.** Let a row have n numbers to multiply, m pre-activations and s carried numbers (an LSTM of
n units: m = 4n, s = 2n). In multiply-adds, the recurrent products of T steps take

    forward       T·B·n·m   in the loop
    rebuild       T·B·n·m   as large products if carries were kept, 0 if pre-activations were,
                            in the loop for `Checkpointed`
    walk back     T·B·n·m   in the loop
    of part 2     T·B·n·m   as large products

A product in the loop reads the n·m weights to use each for B rows. A large product uses each for
K·B rows, and is bound by arithmetic, not by memory. The weight gradient, added to at every step,
would be read and written T times; here it is T/K times.

**Memory**, in numbers, beside inputs, outputs and parameters:

    carries             T·B·s + (T/K)·B·s + K·B·O(m + s)
    pre-activations     T·B·m + (T/K)·B·s + K·B·O(m + s)
    checkpointed                (T/K)·B·s + K·B·O(m + s)      least where K is about √T
    JAX's derivative    T·B·O(m + s)

The last terms of the first three are the temporaries of one block: some thirty numbers per unit and
step. Where projections are narrower than inputs, a plan may project all inputs before the first
block, for T·B·O(m) more; the projection's gradients are then products over all T·B rows.
`platforms.py` weighs these terms when it chooses K and what to keep: a CPU's caches, a GPU's
launches.

**The seam.** The engine has no list of cells, and no cell has a derivative of its own. A step
multiplies through the `affine` that it is handed. The engine hands it one that keeps the
pre-activation, returns the one that was kept, or tells what was multiplied (`seam.py`). A trace of
one step tells the rest. A part of a pre-activation is *input-only* if neither carry nor product
reaches it: its tangent belongs to part 2. A parameter is *pointwise* if it is used outside products
and such parts: what its tangent adds to a step belongs to part 2, too, or to the loop if the
parameter is large (the keys of an attention).

Read on in `entry.py` (the methods), `plan.py` (what is decided beforehand), `rule.py` (the function
that has this derivative), `forward.py`, and `tangent.py` (the derivative), which calls
`rebuild.py`. `kernel.py` stands apart: the same loop as one GPU kernel.
"""

from jaxrnn.methods.bptt.entry import BPTT, Checkpointed

__all__ = ["BPTT", "Checkpointed"]
