"""Back-propagation through time (BPTT) in blocks, for any cell.

**The recurrence.** With its product by the recurrent weight written out, a step is

    a_t = u_t + h_{t-1} W            the pre-activation; u_t comes from the input x_t alone
    h_t, y_t = f(h_{t-1}, u_t, a_t)  pointwise work: gates, activations, what is held over

where h is the whole carry. (A step may have several products, or a convolution for one, and an
operand may be any function of the carry; nothing below changes.)

**Its derivative.** Write dv for the derivative of the loss by v, and J for the derivatives of f.
Back-propagation through time starts at the last step and computes, for t = T … 1,

    δ_t      = J_{a,t}ᵀ (dh_t, dy_t)                 the delta
    dh_{t-1} = J_{h,t}ᵀ (dh_t, dy_t) + δ_t Wᵀ
    dW       = Σ_t h_{t-1}ᵀ δ_t
    du_t     = δ_t + J_{u,t}ᵀ (dh_t, dy_t)

The second line alone is sequential, and J_t depends on h_{t-1} and a_t, which are known before the
walk back begins. The derivative that JAX takes of `lax.scan` makes no use of that. It keeps all
that a step computed, and adds to the whole of dW at every step.

**One block.** Here time is cut into blocks of K steps. Of each step the forward pass keeps either
the carry or the pre-activation, and the carry before each block. The backward pass takes the blocks
last to first, and each in four parts (`backward.py`); B is the number of rows, the batch:

    kept         h_0     h_1     h_2   …  h_{K-1}   h_K
                  │       │       │         │
    1 rebuild     │× W    │× W    │× W      │× W              one product of K·B rows
                  ▼       ▼       ▼         ▼
                 a_1     a_2     a_3   …   a_K
                  │       │       │         │
    2 linearize  J_1     J_2     J_3   …   J_K                pointwise, by `jax.vjp`
                  │       │       │         │
    3 walk back  dh_0 ◄─ dh_1 ◄─ dh_2  …  dh_{K-1} ◄─ dh_K    a loop: one product δ_t Wᵀ
                  │       │       │         │                 of B rows at each step
                  ▼       ▼       ▼         ▼
                 δ_1     δ_2     δ_3   …   δ_K
                  └───────┴───────┴─────────┘
    4 collect    dW += [h_0 … h_{K-1}]ᵀ [δ_1 … δ_K]           one product over K·B rows;
                 dx, and gradients of the projection          likewise

If pre-activations were kept, part 1 computes the carries from them, in a loop without products.
`Checkpointed` keeps neither, and part 1 runs the block again from h_0.

**Cost.** Let a row have n numbers to multiply, m pre-activations and s carried numbers (an LSTM of
n units: m = 4n, s = 2n). In multiply-adds, the recurrent products of T steps take

    forward       T·B·n·m   in the loop
    rebuild       T·B·n·m   as large products if carries were kept, 0 if pre-activations were,
                            in the loop for `Checkpointed`
    walk back     T·B·n·m   in the loop
    collect       T·B·n·m   as large products

A product in the loop reads the n·m weights to use each for B rows. A large product uses each for
K·B rows, and is bound by arithmetic, not by memory. The weight gradient, added to at every step,
would be read and written T times; here it is T/K times.

**Memory**, in numbers, beside inputs, outputs and parameters:

    carries             T·B·s + (T/K)·B·s + K·B·O(m + s)
    pre-activations     T·B·m + (T/K)·B·s + K·B·O(m + s)
    checkpointed                (T/K)·B·s + K·B·O(m + s)      least where K is about √T
    JAX's derivative    T·B·O(m + s)

The last terms of the first three are the temporaries of one block: some thirty numbers per unit and
step. `plan.py` weighs these terms when it chooses K and what to keep.

**The seam.** The engine has no list of cells, and no cell has a derivative of its own. A step
multiplies through the `affine` that it is handed. The engine hands it one that keeps the
pre-activation, returns the one that was kept, or tells what was multiplied (`seam.py`). A trace of
one step tells the rest. A part of a pre-activation is *input-only* if neither carry nor product
reaches it: it is added before the loop back, and pulled back after it, for many steps at once. A
parameter is *pointwise* if it is used outside products and such parts: its gradient, too, is
collected after the loop, or added up in it if the parameter is large (the keys of an attention).

Read on in `entry.py` (the methods), `rule.py` (all blocks), `forward.py`, and `backward.py`.
"""

from jaxrnn.methods.bptt.entry import BPTT, Checkpointed

__all__ = ["BPTT", "Checkpointed"]
