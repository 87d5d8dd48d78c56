#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mempool/base/error.h"

namespace runnel::cli {

/// Cores as people write them: a list ("0,2-5", also in brackets) or a hexadecimal mask ("0x3c").
/// @error invalid, with the text and the accepted forms
[[nodiscard]] outcome<std::vector<unsigned>> parse_core_list(std::string_view text);

/// Targets take the first core this process may use, their clients the last, so that both run
/// without a word about cores.
enum class default_core : std::uint8_t { first, last };

/// The cores of an option, or the default one when the option is empty.
[[nodiscard]] outcome<std::vector<unsigned>> choose_cores(const std::string& option,
                                                          default_core otherwise);

}  // namespace runnel::cli
