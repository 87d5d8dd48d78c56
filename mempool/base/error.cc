#include "mempool/base/error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace runnel {

error os_error() noexcept {
  return {errc::os, static_cast<std::uint32_t>(errno)};
}

std::string to_string(error what) {
  switch (what.code) {
    case errc::ok:
      return "success";
    case errc::queue_full:
      return "queue full";
    case errc::device_gone:
      return "device gone";
    case errc::timed_out:
      return "timed out";
    case errc::bad_status:
      return fmt::format("device status {:#x}", what.detail);
    case errc::os:
      return std::generic_category().message(static_cast<int>(what.detail));
    case errc::invalid:
      return "invalid argument";
    case errc::unsupported:
      return "not supported";
    case errc::protocol:
      return "protocol violation";
    case errc::no_memory:
      return "out of memory";
    case errc::cancelled:
      return "cancelled";
    case errc::busy:
      return "in use";
    case errc::not_found:
      return "not found";
    case errc::data_differs:
      return "other data than was written";
  }
  return fmt::format("error {}", static_cast<unsigned>(what.code));
}

std::string failure::message() const {
  std::string text = operation;
  if (!object.empty()) {
    text += ' ';
    text += object;
  }
  text += ": ";
  text += to_string(what);
  if (!hint.empty()) {
    text += "; ";
    text += hint;
  }
  return text;
}

std::unexpected<failure> fail(error what, std::string operation, std::string object,
                              std::string hint) {
  return std::unexpected{failure{.what = what,
                                 .operation = std::move(operation),
                                 .object = std::move(object),
                                 .hint = std::move(hint)}};
}

}  // namespace runnel
