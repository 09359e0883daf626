"""Count the syllables of English words from their spelling: a GRU, trained in half a minute.

python examples/quickstart.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import trange

import jaxrnn
from kit import cmudict

dictionary = cmudict.load()  # 125,000 words; a syllable is a phoneme with a stress, such as OW1
train_words, test_words = cmudict.split(dictionary, held_out=5000)


def arrays(words):
    letters = jaxrnn.sequences.pad([np.frombuffer(word.encode(), np.uint8) for word in words])
    syllables = [sum(p[-1].isdigit() for p in dictionary[word][0]) for word in words]
    return letters.xs, letters.lengths, np.minimum(syllables, 9)


cell = jaxrnn.GRU(64)
k_embedding, k_cell, k_w = jax.random.split(jax.random.key(0), 3)
params = {
    "embedding": jax.random.normal(k_embedding, (128, 32)),
    "cell": cell.init(k_cell, in_features=32),
    "w": 0.1 * jax.random.normal(k_w, (64, 10)),
}


def logits(params, letters, lengths):
    xs = params["embedding"][letters]  # [time, words, 32]
    last, _ = jaxrnn.scan(cell, params["cell"], xs, lengths=lengths)
    return last @ params["w"]


def loss(params, letters, lengths, syllables):
    out = logits(params, letters, lengths)
    return optax.softmax_cross_entropy_with_integer_labels(out, syllables).mean()


@jax.jit
def update(params, state, *batch):
    updates, state = optimizer.update(jax.grad(loss)(params, *batch), state)
    return optax.apply_updates(params, updates), state


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
state, draw = optimizer.init(params), np.random.default_rng(0)
letters, lengths, syllables = arrays(train_words)
for _ in trange(1000):
    k = draw.integers(0, len(train_words), 128)
    params, state = update(params, state, letters[:, k], lengths[k], syllables[k])

*inputs, answers = arrays(test_words)
right = np.mean(jnp.argmax(jax.jit(logits)(params, *inputs), axis=-1) == answers)
print(f"right on 5,000 held-out words: {right:.1%}; always two: {np.mean(answers == 2):.1%}")
