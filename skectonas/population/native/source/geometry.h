// Sizes of the maps of a cell.
#pragma once

#include "vectors.h"

namespace skectonas {
namespace SKECTONAS_ISA {

// The maps of a cell with one input channel. Sizes are in pixels; a pixel is a block of rows.
//
// Pooling takes windows of 2x2 pixels. If a side is odd, the last window is cut. Its sums differ
// from those of the others, so the box map keeps them apart: the windows lie in slots, and there is
// an empty slot before the one that is cut.
//
// Without pooling, a window is one pixel, and so is a slot. Slots go on to the end of the last 2x2
// pixels.
struct Geometry {
    int height, width;            // of the input
    int rows, columns;            // of the output
    int pad_rows, pad_columns;    // of the input, up to the end of the last 2x2 pixels
    bool pools;
    bool odd_height, odd_width;   // whether the last 2x2 pixels are cut
    int slot_rows, slot_columns;

    INLINE_MEMBER int n_windows() const { return rows * columns; }
    INLINE_MEMBER int slot_row(int r) const { return r + (pools && odd_height && r == rows - 1); }
    INLINE_MEMBER int slot_column(int q) const { return q + (pools && odd_width && q == columns - 1); }
    // Sums of 2x2 pixels of the input with its border of zeros.
    INLINE_MEMBER int box_line() const { return 2 * slot_columns + 1; }
    INLINE_MEMBER int box_size() const { return (2 * slot_rows + 1) * box_line(); }
    // The 2x2 pixels of the input; each has a patch of 4x4 pixels around it.
    INLINE_MEMBER int patch_rows() const { return pad_rows / 2; }
    INLINE_MEMBER int patch_columns() const { return pad_columns / 2; }
    INLINE_MEMBER int n_patches() const { return patch_rows() * patch_columns(); }
    // The input with its border of zeros.
    INLINE_MEMBER int pad_line() const { return pad_columns + 2; }
    INLINE_MEMBER int pad_size() const { return (pad_rows + 2) * pad_line(); }
    // The gradient of z of a cell without pooling, with a border of zeros.
    INLINE_MEMBER int slot_line() const { return slot_columns + 2; }
    INLINE_MEMBER int slot_size() const { return (slot_rows + 2) * slot_line(); }
};

INLINE Geometry geometry_of(int height, int width, bool pools = true) {
    Geometry g;
    g.height = height;
    g.width = width;
    g.pools = pools;
    g.odd_height = height % 2;
    g.odd_width = width % 2;
    g.pad_rows = height + g.odd_height;
    g.pad_columns = width + g.odd_width;
    g.rows = pools ? g.pad_rows / 2 : height;
    g.columns = pools ? g.pad_columns / 2 : width;
    g.slot_rows = g.rows + g.odd_height;
    g.slot_columns = g.columns + g.odd_width;
    return g;
}

// Fills a box map. `pixel(r, q, v)` is a vector of the input; `line` holds a line of it meanwhile.
//
// Sums of cut windows have fewer pixels. They are doubled, so that a quarter of every sum is a mean.
template <class T, int B, class Pixel>
INLINE void fill_box(const Geometry &g, T *box, T *line, Pixel &&pixel) {
    constexpr int W = WIDTH<T>;
    const int width = g.width, height = g.height;
    const auto fill_line = [&](int r, auto &&sum) __attribute__((always_inline)) {
        for (int v = 0; v < B; v += W) {
            T *out = box + (size_t)r * g.box_line() * B + v;
            Vector<T> left{}, last{};
            for (int q = 0; q < width; q++, out += B) {
                const Vector<T> here = sum(q, v);
                store(out, left + here);
                last = left;
                left = here;
            }
            if (g.odd_width) {
                store(out + B, last + last);
                store(out + 2 * B, left + left);
                store(out + 3 * B, Vector<T>{});
            } else
                store(out, left);
        }
    };
    const auto pass_on = [&](int q, int v, Vector<T> value) __attribute__((always_inline)) {
        T *p = line + q * B + v;
        const Vector<T> above = load(p);
        store(p, value);
        return above + value;
    };
    for (int i = 0; i < width * B; i += W) store(line + i, Vector<T>{});
    for (int r = 0; r < height; r++) fill_line(r, [&](int q, int v) __attribute__((always_inline)) { return pass_on(q, v, pixel(r, q, v)); });
    if (g.odd_height) {
        const auto twice = [](Vector<T> x) { return x + x; };
        fill_line(height + 1, [&](int q, int v) __attribute__((always_inline)) { return twice(pixel(height - 2, q, v)); });
        fill_line(height + 2, [&](int q, int v) __attribute__((always_inline)) { return twice(load(line + q * B + v)); });
        fill_line(height + 3, [](int, int) __attribute__((always_inline)) { return Vector<T>{}; });
    } else
        fill_line(height, [&](int q, int v) __attribute__((always_inline)) { return load(line + q * B + v); });
}

// Calls `f(r, q, v, gradient)` for each pixel of the input, with its gradient from a box map.
template <class T, int B, class F>
INLINE void from_box(const Geometry &g, const T *box, F &&f) {
    constexpr int W = WIDTH<T>;
    const int line = g.box_line() * B;
    for (int r = 0; r < g.height; r++) {
        const T *above = box + (size_t)r * line;
        const bool is_cut = g.odd_height && r >= g.height - 2;
        const T *cut = box + (size_t)(r + 3) * line;
        for (int v = 0; v < B; v += W) {
            const auto sum = [&](int q) __attribute__((always_inline)) {
                const T *p = above + q * B + v;
                Vector<T> s = load(p) + load(p + line);
                if (is_cut) {
                    const Vector<T> twice = load(cut + q * B + v);
                    s += twice + twice;
                }
                return s;
            };
            Vector<T> left = sum(0);
            for (int q = 0; q < g.width; q++) {
                const Vector<T> right = sum(q + 1);
                Vector<T> gradient = left + right;
                if (g.odd_width && q >= g.width - 2) {
                    const Vector<T> twice = sum(q + 3);
                    gradient += twice + twice;
                }
                f(r, q, v, gradient);
                left = right;
            }
        }
    }
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
