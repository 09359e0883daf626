"""Back-propagation through time (BPTT) in blocks, for any cell.

**The recurrence.** One step of a cell, with its product by the recurrent weight W written out, is

    a_t = u_t + h_{t-1} W            the pre-activation
    h_t, y_t = f(h_{t-1}, u_t, a_t)  pointwise work: gates, activations, what is held over

Here h is the whole carry, y_t is the output, and u_t is the projected input. The projection depends
on the input x_t and on parameters, not on the carry. A step may have several products or none, a
convolution in place of the matrix product, and any function of the carry as an operand. The
following holds for all of these.

**Its derivative.** Write dv for the tangent of v, and J_t for the partial derivatives of f at step
t. Changes of the weight, the inputs and the first carry change the steps, one after the other, by

    da_t       = du_t + h_{t-1} dW + dh_{t-1} W
    dh_t, dy_t = J_t (dh_{t-1}, du_t, da_t)

This is a linear map from dW, du and dh_0 to the tangents of the results. The engine implements this
map, and declares it as the derivative of the run (`jax.custom_jvp`). `jax.jvp` evaluates the map.
`jax.grad` transposes it, and the transpose is back-propagation through time: from the last step to
the first, with v̄ for the gradient of the loss with respect to v,

    δ_t     = J_{a,t}ᵀ (h̄_t, ȳ_t)                the delta, which is ā_t
    h̄_{t-1} = J_{h,t}ᵀ (h̄_t, ȳ_t) + δ_t Wᵀ
    W̄       = Σ_t h_{t-1}ᵀ δ_t
    ū_t     = δ_t + J_{u,t}ᵀ (h̄_t, ȳ_t)

**What must be sequential.** Every h_{t-1} is known before the derivative starts. The map can
therefore compute `du_t + h_{t-1} dW` for many steps at once, before its loop. Only J_t and
`dh_{t-1} W` stay in the loop. Likewise, the transpose computes δ_t and h̄_{t-1} in its loop, and W̄
for many steps at once, after it. JAX's own derivative of `lax.scan` does not separate the two. It
keeps every intermediate result of a step, and adds to the whole of W̄ at every step.

**One block.** To treat all T steps at once would take temporaries for all T steps. Time is
therefore cut into blocks of K steps. The forward pass keeps the carry before each block and, of
each step, the carry, the pre-activation, or both. Let B be the number of rows, the batch. One block
of the derivative (`tangent.py`) has three parts:

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

The transpose takes the blocks from the last to the first. In each block, it

1. does part 1;
2. runs the loop of part 3 backwards, with one product δ_t Wᵀ of B rows in each step;
3. runs the transpose of part 2: one product `[h_0 … h_{K-1}]ᵀ [δ_1 … δ_K]` over K·B rows for W̄, and
   likewise one for the inputs and one for each weight of the projection.

`jax.checkpoint` around a block and around a step leaves part 1 and each J_t to the transpose. The
forward pass stores neither.

The drawing shows part 1 for kept carries. If pre-activations were kept, part 1 computes the carries
from them, in a loop without products. If both were kept, part 1 computes nothing. With
pre-activations, the forward pass also keeps the projected inputs that a step uses outside products,
like those of a GRU's candidate, so that nothing is projected again. `Checkpointed` keeps nothing of
a step, and part 1 runs the block again.

JAX evaluates, batches and transposes every line of this. All of its transformations therefore work,
in any order. Under `vmap` over the batch, the transpose of part 2 is still one product for each
weight.

**Cost.** Let a row have n numbers in the operand, m pre-activations, s numbers in the carry, and p
projected inputs that are used outside products. (An LSTM of n units has m = 4n, s = 2n and p = 0, a
GRU has m = 3n, s = n and p = n.) The recurrent products of T steps take, in multiply-adds,

    forward       T·B·n·m   in the loop
    rebuild       T·B·n·m   as large products, from kept carries
                  0         from kept pre-activations
                  T·B·n·m   in the loop, for `Checkpointed`
    walk back     T·B·n·m   in the loop
    gradient W̄    T·B·n·m   as large products

A product in the loop reads the n·m weights, and uses each for B rows. A large product uses each for
K·B rows, so that arithmetic limits its speed, not memory. Were W̄ added to at every step, it would
be read and written T times. Here it is read and written T/K times.

**Memory**, in numbers, besides inputs, outputs and parameters:

    carries             T·B·s     + (T/K)·B·s + K·B·O(m + s)
    pre-activations     T·B·(m+p) + (T/K)·B·s + K·B·O(m + s)
    both                T·B·(m+p+s)           + K·B·O(m + s)      in one block
    checkpointed                    (T/K)·B·s + K·B·O(m + s)      least for K of about √T
    JAX's derivative    T·B·O(m + s)

The terms with K·B are the temporaries of one block, some thirty numbers per unit and step.

**The plan** (`plan.py`) chooses K and what to keep by these terms. `platforms.py` has the choices:
a CPU's depend on its caches, a GPU's on kernel launches.

- It keeps carries by default. On a CPU it keeps pre-activations, if to rebuild them is much work.
- On a CPU, if one block holds all T steps, it keeps both. The temporaries of that block are as many
  numbers.
- If a block has one step, it keeps nothing of the step. The carry before the block is enough.
- The projection is made block by block, for it may be wider than the inputs. On a CPU, a projection
  that is no wider and fits a cache is made for all T steps before the first block; if the run is
  differentiated, one that is much narrower, too.
- A run that is not differentiated keeps nothing, and has a block length of its own.

**The seam** (`seam.py`). The engine has no list of cells, and no cell has a derivative of its own.
A step multiplies through the `affine` that it gets as its argument. The engine passes one that
records the pre-activation, returns the one that was kept, or records the operand. A trace of one
step shows the rest:

- A part of a pre-activation is *input-only* if it depends neither on the carry nor on a product.
  Part 2 computes its tangent.
- A parameter is *pointwise* if it is used outside products and input-only parts. Part 2 computes
  what its tangent adds to a step. If the parameter is large, like the keys of an attention, the
  loop does.

Read on in this order: `entry.py` (the methods), `plan.py` (the choices), `rule.py` (the function
with this derivative), `forward.py` (the forward pass), and `tangent.py` (the derivative), which
calls `rebuild.py` for part 1 and `products.py` for its products. `blocks.py` has the loops.
`kernel.py` stands apart: it runs the same recurrence as one GPU kernel.
"""

from jaxrnn.methods.bptt.entry import BPTT, Checkpointed

__all__ = ["BPTT", "Checkpointed"]
