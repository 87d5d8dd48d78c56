#pragma once

// Which sanitizer this is compiled for: g++ defines macros of its own, clang 19 answers questions.

#if defined(__SANITIZE_ADDRESS__)
#define RUNNEL_ADDRESS_SANITIZER 1
#elif defined(__SANITIZE_THREAD__)
#define RUNNEL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RUNNEL_ADDRESS_SANITIZER 1
#elif __has_feature(thread_sanitizer)
#define RUNNEL_THREAD_SANITIZER 1
#endif
#endif
