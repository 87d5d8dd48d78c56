#pragma once

struct btf;  // of libbpf

namespace runnel::doctor {

/// Whether types may be printed. libbpf looks at no more of a file than where its parts are, and
/// takes for granted that all that types refer to is there, and that none is made of itself.
/// @param types  those that build on others, too, are looked at as a whole
[[nodiscard]] bool are_sound(const btf* types);

}  // namespace runnel::doctor
