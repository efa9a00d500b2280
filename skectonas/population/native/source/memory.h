// Memory of a known size, handed out piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vectors.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr size_t CACHE_LINE = 64;

// With a base of 0 it only counts.
struct Memory {
    uintptr_t base;
    size_t used;

    template <class T> INLINE_MEMBER T *take(size_t n) {
        T *piece = (T *)(base + used);
        // A few lines apart, so that arrays of equal sizes do not share the sets of a cache.
        used += (n * sizeof(T) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE + 3 * CACHE_LINE;
        return piece;
    }
};

// Values of a line of a matrix: whole vectors, and no multiple of the page size, at which lines
// would share the sets of a cache. In Python: `layout.line_of`.
constexpr int VALUES_OF_LINE = 16;
INLINE int line_of(int n) {
    const int line = up(n, VALUES_OF_LINE);
    return line % 256 == 0 ? line + VALUES_OF_LINE : line;
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
