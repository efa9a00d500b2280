// Batches of images in the order in which the first layers read them, for all networks at once.
#pragma once

#include "geometry.h"
#include "interface.h"
#include "memory.h"
#include "transpose.h"
#include "variants.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr int64_t PREFETCHED_BYTES = 1 << 15;

// What the first layers take; the inputs of a session are a sum of these.
enum : int32_t { PADDED = 1, BOXES = 2, PIXELS = 4 };

template <class T> struct Batch {
    int n_rows, n_blocks;
    T *live;      // [block][lane]: 1 for each row, 0 for the lanes without one
    T *weights;   // [block][lane]: of each row in the loss
    int32_t *labels;
    T *padded;    // [block][channel][row][column][lane], with a border of zeros
    T *boxes;     // the same, of the box map
    T *pixels;    // [block][channel, row, column][lane]
    T *transposed;  // [row][channel, row, column], lines as long as those of a dense layer
};

template <class T, int B> INLINE Batch<T> *place_batch(const Input &in, int32_t inputs, Memory &memory) {
    const Geometry g = geometry_of(in.height, in.width);
    const int blocks = (in.batch + B - 1) / B, n = in.height * in.width * in.channels;
    Batch<T> b{};
    Batch<T> *head = memory.take<Batch<T>>(1);
    b.live = memory.take<T>((size_t)blocks * B);
    b.weights = memory.take<T>((size_t)blocks * B);
    b.labels = memory.take<int32_t>((size_t)blocks * B);
    if (inputs & PADDED) b.padded = memory.take<T>((size_t)blocks * in.channels * g.pad_size() * B);
    if (inputs & BOXES) b.boxes = memory.take<T>((size_t)blocks * in.channels * g.box_size() * B);
    if (inputs & PIXELS) {
        b.pixels = memory.take<T>(((size_t)blocks * n + WIDTH<T>) * B);
        b.transposed = memory.take<T>((size_t)blocks * B * line_of(n));
    }
    if (memory.base) *head = b;
    return head;
}

INLINE size_t bytes_of_pixel(const Input &in) { return in.pixels == 0 ? 1 : in.pixels == 1 ? 4 : 8; }

// What a thread needs to load batches.
template <class T> struct Loading {
    T *offset, *scale;  // of each value of an image
    int64_t *places;    // of each value of an image in the maps
    T *rows;            // some images, a row each
    T *maps;            // [channel][row][column][lane] of a block, if nothing else holds them
    T *line;            // of `fill_box`
    char *varied;       // an image that was changed
    double *sums;       // of its values
};

template <class T, int B> INLINE Loading<T> place_loading(const Input &in, Memory &memory) {
    const size_t n = (size_t)up(in.height * in.width * in.channels, WIDTH<T>);
    Loading<T> l;
    l.offset = memory.take<T>(n);
    l.scale = memory.take<T>(n);
    l.places = memory.take<int64_t>(n);
    l.rows = memory.take<T>(n * WIDTH<T>);
    l.maps = memory.take<T>(n * B);
    l.line = memory.take<T>((size_t)in.width * B);
    const bool varies = in.shift || in.flip || in.erase;
    l.varied = memory.take<char>(varies ? n * bytes_of_pixel(in) : 0);
    l.sums = memory.take<double>(in.erase ? n : 0);
    return l;
}

// The maps of a block: where the first of them begins in it, and sizes of a line and a channel.
struct Maps {
    bool in_padded;  // whether they are those with a border
    int64_t begin, line, size;
};

template <int B> INLINE Maps maps_of(const Input &in, int32_t inputs) {
    const Geometry g = geometry_of(in.height, in.width);
    if (!(inputs & PIXELS) && (inputs & PADDED)) return {true, (g.pad_line() + 1) * B, g.pad_line() * B, (int64_t)g.pad_size() * B};
    return {false, 0, in.width * B, (int64_t)in.width * in.height * B};
}

template <class T, int B> INLINE void fill_loading(const Input &in, int32_t inputs, const Loading<T> &l) {
    const Maps m = maps_of<B>(in, inputs);
    for (int r = 0, i = 0; r < in.height; r++)
        for (int q = 0; q < in.width; q++)
            for (int c = 0; c < in.channels; c++, i++) {
                l.offset[i] = (T)in.offset[c];
                l.scale[i] = (T)in.scale[c];
                l.places[i] = c * m.size + r * m.line + q * B;
            }
}

template <class T, class Pixel>
INLINE void load_row(const Input &in, const Loading<T> &l, const Pixel *image, int64_t variant, T *row, int n) {
    if (variant) {
        vary(in, variant, image, (Pixel *)l.varied, l.sums);
        image = (const Pixel *)l.varied;
    }
    const T *offset = l.offset, *scale = l.scale;
    for (int i = 0; i < n; i++) row[i] = ((T)image[i] - offset[i]) * scale[i];
}

template <class T, int B>
INLINE void load_batch(const Input &in, int32_t inputs, const Rows &rows, int64_t first, int64_t n_rows, Batch<T> &b, void *memory) {
    constexpr int W = WIDTH<T>;
    Memory pieces{(uintptr_t)memory, 0};
    const Loading<T> l = place_loading<T, B>(in, pieces);
    const Geometry g = geometry_of(in.height, in.width);
    const int n = in.height * in.width * in.channels, whole = up(n, W), x_line = line_of(n);
    const Maps m = maps_of<B>(in, inputs);
    const int64_t line = m.line, size = m.size;
    b.n_rows = (int)n_rows;
    b.n_blocks = (int)((n_rows + B - 1) / B);
    for (int i = 0; i < b.n_blocks * B; i++) {
        const bool is_live = i < n_rows;
        b.live[i] = is_live;
        b.labels[i] = is_live ? (int32_t)rows.labels[first + i] : 0;
        b.weights[i] = is_live ? (T)rows.weights[first + i] : 0;
    }
    const bool keeps_rows = (inputs & PIXELS) && in.channels == 1;
    const size_t bytes = n * bytes_of_pixel(in);
    // Rows lie anywhere in memory, so they are fetched in time, but not more of them than fit in a cache.
    const int64_t ahead = bytes * 32 < PREFETCHED_BYTES ? 32 : PREFETCHED_BYTES / (int64_t)bytes + 1;
    for (int k = 0; k < b.n_blocks; k++) {
        T *maps = inputs & PIXELS ? b.pixels + (size_t)k * n * B : l.maps;
        if (m.in_padded) maps = b.padded + (size_t)k * in.channels * size + m.begin;
        for (int s = 0; s < B; s += W) {
            const int begin = k * B + s;
            T *raw = keeps_rows ? b.transposed + (size_t)begin * x_line : l.rows;
            const int raw_line = keeps_rows ? x_line : whole;
            for (int j = 0; j < W; j++) {
                T *row = raw + (size_t)j * raw_line;
                if (begin + j >= n_rows) {
                    __builtin_memset(row, 0, (size_t)whole * sizeof(T));
                    continue;
                }
                const char *images = (const char *)rows.images;
                const int64_t at = first + begin + j;
                if (at + ahead < rows.n)
                    for (size_t p = 0; p < bytes; p += CACHE_LINE) __builtin_prefetch(images + rows.places[at + ahead] * bytes + p, 0, 2);
                const char *image = images + rows.places[at] * bytes;
                const int64_t variant = rows.variants ? rows.variants[at] : 0;
                if (in.pixels == 0)
                    load_row(in, l, (const uint8_t *)image, variant, row, n);
                else if (in.pixels == 1)
                    load_row(in, l, (const float *)image, variant, row, n);
                else
                    load_row(in, l, (const double *)image, variant, row, n);
            }
            for (int i = 0; i < n; i += W) {
                Vector<T> tile[W];
                UNROLL(16)
                for (int j = 0; j < W; j++) tile[j] = load(raw + (size_t)j * raw_line + i);
                transpose_block<T>(tile);
                if (i + W <= n) {
                    UNROLL(16)
                    for (int j = 0; j < W; j++) store(maps + l.places[i + j] + s, tile[j]);
                } else
                    for (int j = 0; j < n - i; j++) store(maps + l.places[i + j] + s, tile[j]);
            }
        }
        if ((inputs & PIXELS) && !keeps_rows)
            transpose<T, B>(maps, b.transposed + (size_t)k * B * x_line, n, x_line);
        for (int c = 0; c < in.channels; c++) {
            const T *map = maps + c * size;
            if ((inputs & PADDED) && !m.in_padded) {
                T *pad = b.padded + ((size_t)k * in.channels + c) * g.pad_size() * B + (g.pad_line() + 1) * B;
                for (int r = 0; r < in.height; r++) __builtin_memcpy(pad + (size_t)r * g.pad_line() * B, map + r * line, (size_t)in.width * B * sizeof(T));
            }
            if (inputs & BOXES)
                fill_box<T, B>(g, b.boxes + ((size_t)k * in.channels + c) * g.box_size() * B, l.line,
                               [&](int r, int q, int v) __attribute__((always_inline)) { return load(map + r * line + (int64_t)q * B + v); });
        }
    }
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
