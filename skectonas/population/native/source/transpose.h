// Values of a block of rows with the rows first.
#pragma once

#include "vectors.h"

namespace skectonas {
namespace SKECTONAS_ISA {

// Transposes values of one block: [value][lane] to [lane][value].
template <class T, int B> INLINE void transpose(const T *x, T *xt, int values, int x_line) {
    constexpr int W = WIDTH<T>;
    for (int i = 0; i < values; i += W)
        for (int b = 0; b < B; b += W) {
            Vector<T> rows[W];
            UNROLL(16)
            for (int k = 0; k < W; k++) rows[k] = load(x + (size_t)(i + k) * B + b);
            transpose_block<T>(rows);
            UNROLL(16)
            for (int k = 0; k < W; k++) store(xt + (size_t)(b + k) * x_line + i, rows[k]);
        }
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
