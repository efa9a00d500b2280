// How gradients change weights: the rules of `torch.optim`.
#pragma once

#include "interface.h"
#include "vectors.h"

namespace skectonas {
namespace SKECTONAS_ISA {

// A step of the optimiser for one network; all pointers are flat and have the same places.
template <class T> struct Step {
    RuleKind kind;
    bool is_first, nesterov, decoupled;
    T rate, decay, momentum, kept;           // SGD; `kept` is one less the dampening
    T rest1, beta2, rest2;        // Adam; a rest is one less the beta, in double precision
    T size, correction, epsilon;  // `size` is the corrected rate
    T *weights, *gradient, *first, *second;
};

template <class T> INLINE Step<T> step_of(const Update &u, T *weights, T *gradient) {
    Step<T> s;
    const Rule &r = u.rule;
    s.kind = (RuleKind)r.kind;
    s.is_first = u.step == 0;
    s.nesterov = r.nesterov;
    s.decoupled = r.decoupled;
    s.rate = (T)u.rate;
    s.decay = (T)(r.decoupled ? 1 - u.rate * r.weight_decay : r.weight_decay);
    s.momentum = (T)r.momentum;
    s.kept = (T)(1 - r.dampening);
    s.rest1 = (T)(1 - r.beta1);
    s.beta2 = (T)r.beta2;
    s.rest2 = (T)(1 - r.beta2);
    s.epsilon = (T)r.epsilon;
    s.size = s.correction = 0;
    if (s.kind == ADAM) {
        const double t = (double)(u.step + 1);
        s.size = (T)(u.rate / (1 - __builtin_pow(r.beta1, t)));
        s.correction = (T)__builtin_sqrt(1 - __builtin_pow(r.beta2, t));
    }
    s.weights = weights;
    s.gradient = gradient;
    s.first = (T *)u.first;
    s.second = (T *)u.second;
    return s;
}

// Calls `f` with the function that takes a place and a vector of gradients.
template <class T, class F> INLINE void with_rule(const Step<T> &s, F &&f) {
    using V = Vector<T>;
    switch (s.kind) {
        case STORE:
            return f([&](int64_t i, V g) __attribute__((always_inline)) { store(s.gradient + i, g); });
        case PLAIN:
            return f([&](int64_t i, V g) __attribute__((always_inline)) {
                T *p = s.weights + i;
                store(p, load(p) - s.rate * g);
            });
        case MOMENTUM:
            return f([&](int64_t i, V g) __attribute__((always_inline)) {
                T *p = s.weights + i, *m = s.first + i;
                const V w = load(p);
                g += s.decay * w;
                const V buffer = s.is_first ? g : s.momentum * load(m) + s.kept * g;
                store(m, buffer);
                store(p, w - s.rate * (s.nesterov ? g + s.momentum * buffer : buffer));
            });
        case ADAM:
            return f([&](int64_t i, V g) __attribute__((always_inline)) {
                T *p = s.weights + i, *m = s.first + i, *q = s.second + i;
                V w = load(p);
                if (s.decoupled)
                    w *= s.decay;
                else
                    g += s.decay * w;
                const V mean = load(m) + s.rest1 * (g - load(m)), square = s.beta2 * load(q) + s.rest2 * (g * g);
                store(m, mean);
                store(q, square);
                store(p, w - s.size * mean / (root<T>(square) / s.correction + s.epsilon));
            });
    }
}

// Updates consecutive weights by their gradients, up to the end of the last vector.
template <class T> INLINE void update(const Step<T> &s, int64_t place, int n) {
    if (s.kind == STORE) return;
    for (int i = n; i % WIDTH<T>; i++) s.gradient[place + i] = 0;
    with_rule(s, [&](auto rule) __attribute__((always_inline)) {
        for (int i = 0; i < n; i += WIDTH<T>) rule(place + i, load(s.gradient + place + i));
    });
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
