#include "apps/identify/identify.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <iterator>
#include <memory>
#include <string_view>
#include <utility>

#include "drivers/nvme/controller.h"
#include "mempool/window.h"
#include "runtime/cores.h"
#include "runtime/io/address.h"
#include "runtime/io/open.h"
#include "runtime/io/vfio_host.h"

namespace runnel::identify {
namespace {

/// A text field of the device: padded with spaces or ended by zero, and not to be trusted.
template <std::size_t Bytes>
std::string text_of(const std::array<char, Bytes>& field) {
  std::string text;
  for (const char letter : field) {
    if (letter == '\0') {
      break;
    }
    text += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

template <std::size_t Bytes>
std::string hex_of(const std::array<std::uint8_t, Bytes>& bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    fmt::format_to(std::back_inserter(text), "{:02x}", byte);
  }
  return text;
}

std::uint64_t block_bytes_of(const nvme::identify_namespace& data) {
  constexpr unsigned shift_max = 31;
  const unsigned shift = data.lbaf[data.format_index()].lbads;
  return shift <= shift_max ? std::uint64_t{1} << shift : 0;
}

outcome<findings> ask_nvme(io::address where, const io::open_context& context) {
  findings found;
  found.is_nvme = true;
  std::vector<std::uint32_t> unasked{0};  // 0: whichever comes first
  while (!unasked.empty()) {
    where.namespace_id = unasked.back() == 0 ? where.namespace_id : unasked.back();
    const auto opened = io::open_controller(where, context);
    if (!opened) {
      return std::unexpected{opened.error()};
    }
    const nvme::controller_data& data = (*opened)->details();
    if (found.namespaces.empty()) {
      found.controller = data.controller_identity;
      found.geometry = data.info;
      unasked.assign(data.active_namespaces.rbegin(), data.active_namespaces.rend());
    }
    found.namespaces.push_back({.nsid = data.nsid, .data = data.namespace_identity});
    std::erase(unasked, data.nsid);
  }
  return found;
}

nlohmann::ordered_json namespace_json(const found_namespace& one) {
  nlohmann::ordered_json out;
  out["nsid"] = one.nsid;
  out["nsze"] = one.data.nsze;
  out["ncap"] = one.data.ncap;
  out["nuse"] = one.data.nuse;
  out["flbas"] = one.data.flbas;
  out["lba_bytes"] = block_bytes_of(one.data);
  out["nguid"] = hex_of(one.data.nguid);
  out["eui64"] = hex_of(one.data.eui64);
  return out;
}

nlohmann::ordered_json controller_json(const nvme::identify_controller& data) {
  nlohmann::ordered_json out;
  out["vid"] = data.vid;
  out["ssvid"] = data.ssvid;
  out["sn"] = text_of(data.sn);
  out["mn"] = text_of(data.mn);
  out["fr"] = text_of(data.fr);
  out["mdts"] = data.mdts;
  out["cntlid"] = data.cntlid;
  out["ver"] = data.ver;
  out["oacs"] = data.oacs;
  out["oncs"] = data.oncs;
  out["vwc"] = data.vwc;
  out["sgls"] = data.sgls;
  out["nn"] = data.nn;
  out["subnqn"] = text_of(data.subnqn);
  return out;
}

}  // namespace

outcome<findings> ask(const std::string& address) {
  const auto where = io::parse_address(address);
  if (!where) {
    return std::unexpected{where.error()};
  }
  auto memory = window::create({});
  if (!memory) {
    return std::unexpected{memory.error()};
  }
  const auto cores = allowed_cores();
  if (!cores) {
    return std::unexpected{cores.error()};
  }
  const tsc_clock clock;
  io::vfio_host kernel{*cores};
  const io::open_context context{.memory = *memory,
                                 .clock = clock,
                                 .kernel = kernel,
                                 .queues = 1,
                                 .queue_depth = 8,
                                 .read_only = true};
  if (where->kind == io::scheme::vfio_user || where->kind == io::scheme::pci) {
    return ask_nvme(*where, context);
  }
  const auto opened = io::open_block(*where, context);
  if (!opened) {
    return std::unexpected{opened.error()};
  }
  findings found;
  found.geometry = (*opened)->info();
  return found;
}

std::string to_json(const findings& what) {
  nlohmann::ordered_json out;
  out["address"] = what.geometry.address;
  if (what.is_nvme) {
    out["controller"] = controller_json(what.controller);
    for (const found_namespace& one : what.namespaces) {
      out["namespaces"].push_back(namespace_json(one));
    }
  } else {
    out["block"] = {{"block_bytes", what.geometry.block_bytes},
                    {"block_count", what.geometry.block_count},
                    {"volatile_cache", what.geometry.volatile_cache}};
  }
  return out.dump(2);
}

std::string to_text(const findings& what) {
  if (!what.is_nvme) {
    return fmt::format("{}: {} blocks of {} bytes{}\n", what.geometry.address,
                       what.geometry.block_count, what.geometry.block_bytes,
                       what.geometry.volatile_cache ? ", volatile cache" : "");
  }
  const nvme::identify_controller& data = what.controller;
  std::string out = fmt::format("{}: {} {}, firmware {}\n", what.geometry.address, text_of(data.mn),
                                text_of(data.sn), text_of(data.fr));
  fmt::format_to(std::back_inserter(out),
                 "  NVMe {}.{}, vendor {:04x}, controller {}, subsystem {}\n", data.ver >> 16U,
                 data.ver >> 8U & 0xffU, data.vid, data.cntlid, text_of(data.subnqn));
  for (const found_namespace& one : what.namespaces) {
    fmt::format_to(std::back_inserter(out), "  namespace {}: {} blocks of {} bytes\n", one.nsid,
                   one.data.nsze, block_bytes_of(one.data));
  }
  return out;
}

}  // namespace runnel::identify
