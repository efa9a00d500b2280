// Dense layers. Values are [block][unit][lane]; weights are [unit][input], their lines padded.
#pragma once

#include "convolution.h"
#include "update.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr int DENSE_TILE = MANY_REGISTERS ? 10 : 5;

// y = bias + weight x, for one block of rows and some units.
template <class T, int B, int UNITS>
INLINE void dense_forward(const T *weight, int line, const T *bias, const T *x, T *y, int inputs, bool has_relu) {
    constexpr int W = WIDTH<T>, P = PAIR<T, B>;
    for (int v = 0; v < B; v += P * W) {
        Vector<T> a[UNITS][P];
        UNROLL(16)
        for (int u = 0; u < UNITS; u++) {
            UNROLL(2)
            for (int j = 0; j < P; j++) a[u][j] = all(bias[u]);
        }
        for (int i = 0; i < inputs; i++) {
            Vector<T> own[P];
            UNROLL(2)
            for (int j = 0; j < P; j++) own[j] = load(x + (size_t)i * B + v + j * W);
            UNROLL(16)
            for (int u = 0; u < UNITS; u++) {
                const Vector<T> w = all(weight[(size_t)u * line + i]);
                UNROLL(2)
                for (int j = 0; j < P; j++) a[u][j] += w * own[j];
            }
        }
        UNROLL(16)
        for (int u = 0; u < UNITS; u++) {
            UNROLL(2)
            for (int j = 0; j < P; j++) store(y + u * B + v + j * W, has_relu ? relu(a[u][j]) : a[u][j]);
        }
    }
}

// Gradient of some inputs for one block of rows, through the relu before.
template <class T, int B, int INPUTS>
INLINE void dense_backward(const T *weight, int line, const T *dy, const T *x, T *dx, int units) {
    constexpr int W = WIDTH<T>, P = PAIR<T, B>;
    for (int v = 0; v < B; v += P * W) {
        Vector<T> a[INPUTS][P] = {};
        for (int u = 0; u < units; u++) {
            Vector<T> own[P];
            UNROLL(2)
            for (int j = 0; j < P; j++) own[j] = load(dy + (size_t)u * B + v + j * W);
            UNROLL(16)
            for (int i = 0; i < INPUTS; i++) {
                const Vector<T> w = all(weight[(size_t)u * line + i]);
                UNROLL(2)
                for (int j = 0; j < P; j++) a[i][j] += w * own[j];
            }
        }
        UNROLL(16)
        for (int i = 0; i < INPUTS; i++) {
            UNROLL(2)
            for (int j = 0; j < P; j++) {
                const int at = i * B + v + j * W;
                store(dx + at, keep(greater(load(x + at), Vector<T>{}), a[i][j]));
            }
        }
    }
}

// Updates a tile of the weights by their gradients. `xt` is [row][input], of all blocks.
template <class T, int B, int UNITS, int VECTORS>
INLINE void dense_weights(const Step<T> &step, int64_t place, int line, const T *dy, int dy_block, const T *xt, int x_line, int blocks) {
    constexpr int W = WIDTH<T>;
    Vector<T> a[UNITS][VECTORS] = {};
    for (int k = 0; k < blocks; k++, dy += dy_block)
        for (int b = 0; b < B; b++, xt += x_line) {
            Vector<T> x[VECTORS];
            UNROLL(2)
            for (int j = 0; j < VECTORS; j++) x[j] = load(xt + j * W);
            UNROLL(16)
            for (int u = 0; u < UNITS; u++) {
                const Vector<T> d = all(dy[u * B + b]);
                UNROLL(2)
                for (int j = 0; j < VECTORS; j++) a[u][j] += d * x[j];
            }
        }
    with_rule(step, [&](auto rule) __attribute__((always_inline)) {
        UNROLL(16)
        for (int u = 0; u < UNITS; u++) {
            UNROLL(2)
            for (int j = 0; j < VECTORS; j++) rule(place + (int64_t)u * line + j * W, a[u][j]);
        }
    });
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
