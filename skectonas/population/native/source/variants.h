// Variants of images, as `Augmentation` in training/recipe.py makes them: the same bits.
#pragma once

#include "interface.h"
#include "vectors.h"

namespace skectonas {
namespace SKECTONAS_ISA {

constexpr int ERASED_PLACES = 16;  // in Python: `recipe.ERASED_PLACES`

INLINE int clamp(int x, int most) { return x < 0 ? 0 : x < most ? x : most; }

// Where a step is in the order 0, -1, 1, -2, 2 and so on.
INLINE int step_at(int64_t i) { return (int)(i % 2 ? -(i + 1) / 2 : i / 2); }

// Shifts an image, and mirrors it then. What is missing at the edge repeats the pixels there.
template <class Pixel> INLINE void move_image(const Input &in, int64_t move, const Pixel *image, Pixel *out) {
    const int64_t n_steps = 2 * (int64_t)in.shift + 1;
    const int down = step_at(move / n_steps % n_steps), right = step_at(move % n_steps);
    const int channels = in.channels, line = in.width * channels;
    const int before = clamp(right, in.width) * channels, after = clamp(-right, in.width) * channels;
    for (int r = 0; r < in.height; r++, out += line) {
        const Pixel *row = image + (size_t)clamp(r - down, in.height - 1) * line;
        for (int i = 0; i < before; i++) out[i] = row[i % channels];
        __builtin_memcpy(out + before, row + after, (line - before - after) * sizeof(Pixel));
        for (int i = line - after; i < line; i++) out[i] = row[line - channels + i % channels];
        if (move < n_steps * n_steps) continue;
        for (int i = 0, j = line - channels; i < j; i += channels, j -= channels)
            for (int c = 0; c < channels; c++) {
                const Pixel left = out[i + c];
                out[i + c] = out[j + c];
                out[j + c] = left;
            }
    }
}

// The rows or columns of a square, whose centre is at one of `ERASED_PLACES`.
struct Span {
    int begin, end;
};
INLINE Span span_of(int place, int side, int erase) {
    const int size = erase < 2 * side ? erase : 2 * side;
    const int begin = (2 * place + 1) * side / (2 * ERASED_PLACES) - size / 2;
    return {clamp(begin, side), clamp(begin + size, side)};
}

// Sets a square to the mean of each channel. The sums are those of halves that are added up, so that
// they are the same for vectors of all sizes.
template <class Pixel> INLINE void erase_square(const Input &in, int place, Pixel *image, double *sums) {
    constexpr bool is_whole = sizeof(Pixel) == 1;
    const int n = in.height * in.width, channels = in.channels;
    for (int i = 0; i < n * channels; i++) sums[i] = is_whole ? image[i] : image[i] / (double)n;
    for (int rest = n; rest > 1;) {
        const int half = (rest + 1) / 2;
        const double *others = sums + (size_t)half * channels;
        for (int i = 0; i < (rest - half) * channels; i++) sums[i] += others[i];
        rest = half;
    }
    const Span rows = span_of(place / ERASED_PLACES, in.height, in.erase), columns = span_of(place % ERASED_PLACES, in.width, in.erase);
    for (int c = 0; c < channels; c++) {
        const Pixel mean = (Pixel)(is_whole ? __builtin_rint(sums[c] / n) : sums[c]);
        for (int r = rows.begin; r < rows.end; r++)
            for (int q = columns.begin; q < columns.end; q++) image[((size_t)r * in.width + q) * channels + c] = mean;
    }
}

// Writes a variant of an image. `sums` has room for each of its values.
template <class Pixel> INLINE void vary(const Input &in, int64_t variant, const Pixel *image, Pixel *out, double *sums) {
    const int64_t n_steps = 2 * (int64_t)in.shift + 1, n_moves = (in.flip ? 2 : 1) * n_steps * n_steps;
    move_image(in, variant % n_moves, image, out);
    if (variant >= n_moves) erase_square(in, (int)(variant / n_moves) - 1, out, sums);
}

}  // namespace SKECTONAS_ISA
}  // namespace skectonas
