// What dispatch.cpp calls in each variant of the engine.
#pragma once

namespace skectonas {

#define SKECTONAS_DECLARE(variant) \
    namespace variant { \
    int vector_bytes(); \
    }

SKECTONAS_DECLARE(baseline)
SKECTONAS_DECLARE(x86_64_v2)
SKECTONAS_DECLARE(x86_64_v3)
SKECTONAS_DECLARE(x86_64_v4)

#undef SKECTONAS_DECLARE

}  // namespace skectonas
