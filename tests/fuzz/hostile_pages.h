#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "drivers/nvme/command_limits.h"
#include "drivers/nvme/identify.h"
#include "drivers/nvme/spec.h"
#include "mempool/base/check.h"
#include "tests/fuzz/hostile_transport.h"

namespace runnel::fuzz {

/// What a hostile device says of itself and of its namespace. It is the same each time, as drivers
/// expect after a reset, as long as the program says nothing else.
class hostile_pages {
 public:
  static constexpr std::uint32_t blocks = 64;

  /// @param of  borrowed @param shadow_doorbells  that it has them
  hostile_pages(honesty& of, bool shadow_doorbells) : of_{of}, shadows_{shadow_doorbells} {}

  /// @param out  an identify page of zeroes
  void identify(nvme::identify_cns what, std::span<std::byte> out) {
    CHECK(out.size() == nvme::identify_bytes);
    switch (what) {
      case nvme::identify_cns::controller:
        return write(controller(), out);
      case nvme::identify_cns::active_namespaces:
        out[0] = std::byte{1};
        break;
      case nvme::identify_cns::namespace_nvm:
        return write(nvm_namespace(), out);
      case nvme::identify_cns::controller_command_set:
        return write(command_set(), out);
      case nvme::identify_cns::namespace_descriptors:
        descriptors(out);
        break;
      default:
        break;
    }
    if (of_.lies(8)) {
      spoil(out);
    }
  }

  /// @param out  zeroes, as many as the driver asked for
  void log(nvme::log_page what, std::span<std::byte> out) {
    if (what == nvme::log_page::changed_namespaces && !of_.lies(4)) {
      out[0] = std::byte{1};
    }
    if (of_.lies(4)) {
      spoil(out);
    }
  }

  void format(std::uint32_t index) noexcept { format_ = static_cast<std::uint8_t>(index & 0xfU); }

 private:
  template <class Page>
  static void write(const Page& page, std::span<std::byte> out) {
    std::memcpy(out.data(), &page, sizeof page);
  }

  void spoil(std::span<std::byte> out) {
    const auto bytes = of_.program.take_bytes(std::min<std::size_t>(24, out.size()));
    std::ranges::copy(bytes, out.begin());
  }

  nvme::identify_controller controller() {
    nvme::identify_controller data{};
    data.mdts = of_.lies(4) ? of_.program.below<std::uint8_t>(6) : std::uint8_t{1};
    data.oaes = nvme::events_namespaces | nvme::events_firmware;
    data.oacs = shadows_ ? nvme::oacs_doorbell_buffer : std::uint16_t{0};
    data.aerl = of_.lies(8) ? of_.program.take_byte() : std::uint8_t{3};
    data.sqes = 0x66;
    data.cqes = 0x44;
    data.nn = 1;
    data.oncs = of_.lies(8) ? of_.program.take<std::uint16_t>() : oncs_all;
    return data;
  }

  nvme::identify_command_set command_set() {
    nvme::identify_command_set data{};
    data.vsl = of_.lies(8) ? of_.program.take_byte() : std::uint8_t{9};
    data.wzsl = of_.lies(8) ? of_.program.take_byte() : std::uint8_t{10};
    data.dmrsl = of_.lies(8) ? of_.program.take<std::uint32_t>() : 5000;
    data.dmsl = of_.lies(8) ? of_.program.take_byte() : 0;
    return data;
  }

  /// Formats: 512 bytes, the same once more, 4096 bytes, and one with metadata.
  nvme::identify_namespace nvm_namespace() {
    nvme::identify_namespace data{};
    data.nsze = of_.lies(4) ? of_.program.take_byte() : blocks;
    data.nlbaf = 3;
    data.flbas = of_.lies(8) ? of_.program.take_byte() : format_;
    data.lbaf[0].lbads = 9;
    data.lbaf[1].lbads = 9;
    data.lbaf[2].lbads = 12;
    data.lbaf[3] = {.ms = 8, .lbads = 9, .rp = 0};
    return data;
  }

  void descriptors(std::span<std::byte> out) {
    using enum nvme::namespace_id_type;
    constexpr std::array<nvme::namespace_descriptor, 4> names{{
        {.nidt = static_cast<std::uint8_t>(uuid), .nidl = 16, .reserved2 = 0},
        {.nidt = static_cast<std::uint8_t>(eui64), .nidl = 8, .reserved2 = 0},
        {.nidt = static_cast<std::uint8_t>(nguid), .nidl = 16, .reserved2 = 0},
        {.nidt = static_cast<std::uint8_t>(command_set), .nidl = 1, .reserved2 = 0},
    }};
    std::size_t at = 0;
    for (nvme::namespace_descriptor name : names) {
      name.nidl = of_.lies(8) ? of_.program.take_byte() : name.nidl;
      const std::size_t end = at + sizeof name + name.nidl;
      write(name, out.subspan(at));
      at = end;
    }
  }

  static constexpr std::uint16_t oncs_all = nvme::oncs_compare | nvme::oncs_dataset_management |
                                            nvme::oncs_write_zeroes | nvme::oncs_verify;

  honesty& of_;
  bool shadows_;
  std::uint8_t format_ = 0;
};

}  // namespace runnel::fuzz
