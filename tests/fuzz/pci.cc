// Goal: no configuration space, list of names or address breaks what takes it apart, and what is
// let through keeps its promises. Method: the first byte names a parser, the rest is what it gets.

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/pci/address.h"
#include "drivers/pci/config_space.h"
#include "drivers/pci/names.h"
#include "mempool/base/check.h"
#include "tests/fuzz/byte_program.h"

namespace runnel::fuzz {
namespace {

using namespace pci;
using bytes = std::span<const std::byte>;

/// A device that chooses anew whatever it is asked, from the bytes of the input: zeros at its end.
class hostile_space final : public config_reader {
 public:
  explicit hostile_space(bytes choices) : program_{choices}, length_{lengths(program_)} {}

  result<std::uint32_t> read(std::uint16_t offset, std::uint16_t bytes_asked) noexcept override {
    CHECK(bytes_asked == 1 || bytes_asked == 2 || bytes_asked == 4);
    CHECK(offset % bytes_asked == 0);
    CHECK(offset + bytes_asked <= extended_space_bytes);
    CHECK(++reads_ <= reads_max);
    if (std::uint32_t{offset} + bytes_asked > length_) {
      return fail(errc::unsupported);
    }
    const std::uint32_t mask = 0xffff'ffffU >> (32 - 8 * bytes_asked);
    const std::uint32_t next = program_.take_byte() * 4U;  // of a list, where it likes to be
    switch (program_.below(4)) {
      case 0:
        return (next << 20U | 1U << 16U | program_.take_byte()) & mask;
      case 1:
        return (next << 8U | program_.take_byte()) & mask;
      case 2:
        return program_.take<std::uint32_t>() & mask;
      default:
        return mask;
    }
  }

 private:
  static constexpr std::size_t reads_max = 4 + extended_space_bytes / 4;

  static std::uint32_t lengths(byte_program& program) {
    return program.pick(std::array<std::uint32_t, 4>{4096, 256, 64, 0});
  }

  byte_program program_;
  std::uint32_t length_;
  std::size_t reads_ = 0;
};

void check_list(const result<std::vector<capability>>& found, std::uint16_t first,
                std::uint16_t end) {
  std::set<std::uint16_t> offsets;
  for (const capability& each : found.value_or(std::vector<capability>{})) {
    CHECK(each.offset >= first && each.offset + 4 <= end && each.offset % 4 == 0);
    CHECK(offsets.insert(each.offset).second);
  }
}

void capabilities_of(bytes choices) {
  hostile_space space{choices};
  const auto found = list_capabilities(space);
  check_list(found, 0x40, legacy_space_bytes);
  for (const capability& each : found.value_or(std::vector<capability>{})) {
    hostile_space again{choices};
    const auto vectors = msix_vectors(again, each);
    CHECK(!vectors || (*vectors >= 1 && *vectors <= 2048));
  }
}

void extended_capabilities_of(bytes choices) {
  hostile_space space{choices};
  check_list(list_extended_capabilities(space), legacy_space_bytes, extended_space_bytes);
}

std::string_view text_of(bytes input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

void check_name(const std::string& name) {
  CHECK(name.size() <= 200);
  CHECK(std::ranges::none_of(name, [](char each) { return each >= 0 && each < ' '; }));
}

void names_of(bytes input) {
  const std::array wanted{identity{0x010802, 0x1b36, 0x0010, 0x1af4, 0x1100},
                          identity{0x020000, 0x8086, 0x10d3, 0x8086, 0x0000}};
  name_search search{wanted};
  std::string_view rest = text_of(input);
  while (!rest.empty()) {
    search.take(rest.substr(0, rest.find('\n')));
    rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  }
  CHECK(search.found().size() == wanted.size());
  for (const device_names& each : search.found()) {
    for (const std::string& name : {each.kind, each.vendor, each.device, each.subsystem}) {
      check_name(name);
    }
  }
}

/// Text put together from what it is made of.
template <std::size_t Count>
std::string compose(bytes choices, const std::array<std::string_view, Count>& pieces) {
  std::string text;
  for (const std::byte choice : choices.first(std::min<std::size_t>(choices.size(), 64))) {
    text += pieces[std::to_integer<std::size_t>(choice) % Count];
  }
  return text;
}

void named_lines_of(bytes choices) {
  constexpr std::array<std::string_view, 16> pieces{
      "\n", "\t",   "C ", "1b36", "0010", "1af4 1100", "01",     "08",
      "  ", "name", "#",  "8086", "10d3", "\n\t",      "\n\t\t", "02"};
  const std::string text = compose(choices, pieces);
  names_of(std::as_bytes(std::span{text}));
}

void address_of(bytes input) {
  if (const auto where = parse_address(text_of(input))) {
    CHECK(where->device < 32 && where->function < 8);
    CHECK(parse_address(pci::to_string(*where)) == where);
  }
}

void composed_address_of(bytes choices) {
  constexpr std::array<std::string_view, 8> pieces{"0000:", "01:", "1f",     ".",
                                                   "7",     "a",   "10000:", "8"};
  const std::string text = compose(choices, pieces);
  address_of(std::as_bytes(std::span{text}));
}

constexpr std::array parsers{capabilities_of, extended_capabilities_of, names_of, named_lines_of,
                             address_of,      composed_address_of};

}  // namespace
}  // namespace runnel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace runnel::fuzz;
  byte_program program{{data, size}};
  const auto parser = program.pick(parsers);
  parser(program.take_bytes(size));
  return 0;
}
