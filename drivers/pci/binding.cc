#include "drivers/pci/binding.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "drivers/pci/serving.h"
#include "drivers/pci/uses.h"

namespace runnel::pci {
namespace {

constexpr const char* probe_path = "/sys/bus/pci/drivers_probe";
constexpr std::string_view no_override = "\n";

std::string driver_file(std::string_view driver, std::string_view file) {
  return fmt::format("/sys/bus/pci/drivers/{}/{}", driver, file);
}

std::string override_path(const device& which) {
  return folder_of(which.where) + "/driver_override";
}

/// What cannot be written, and why it does not work.
std::unexpected<failure> refuse(std::string_view verb, error what, const device& which,
                                const std::string& path) {
  const auto is = [what](int number) {
    return what == error{errc::os, static_cast<std::uint32_t>(number)};
  };
  std::string hint = "the kernel refused to write " + path + "; `dmesg` may say why";
  if (what.code == errc::timed_out) {
    hint = "the kernel is still busy with " + path;
  } else if (is(EACCES) || is(EPERM)) {
    hint = fmt::format("writing {} needs root: run `sudo runnel {} {}`", path, verb,
                       to_string(which.where));
  } else if (is(EROFS)) {
    hint = path + " is mounted read-only: run this outside of the container";
  }
  return fail(what, std::string{verb}, name_of(which.where), std::move(hint));
}

outcome<> check_writable(std::string_view verb, writer& writes, const device& which,
                         const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (const result<> allowed = writes.may_write(path); !allowed) {
      return refuse(verb, allowed.error(), which, path);
    }
  }
  return {};
}

/// One step of a change: what is written where.
struct step {
  std::string path;
  std::string text;
};

/// As far as it goes. @param done  how many steps were taken
outcome<> take_steps(std::string_view verb, writer& writes, const device& which,
                     const std::vector<step>& steps, std::size_t& done) {
  for (done = 0; done < steps.size(); ++done) {
    const step& each = steps[done];
    if (const result<> written = writes.write(each.path, each.text); !written) {
      return refuse(verb, written.error(), which, each.path);
    }
  }
  return {};
}

/// For the time when vfio-pci waits for a process to let go of a device.
std::string who_keeps(const file_tree& files, const device& which) {
  std::vector<std::string> holders;
  for (const std::string& node : vfio_nodes(which)) {
    std::ranges::move(holders_of(files, node), std::back_inserter(holders));
  }
  return fmt::format("{} has it open; end that, then run `runnel unbind {}` again",
                     holders.empty() ? "a process" : fmt::format("{}", fmt::join(holders, ", ")),
                     to_string(which.where));
}

}  // namespace

old_drivers::old_drivers(const file_tree& files, std::string folder)
    : files_{files}, folder_{std::move(folder)} {}

std::string old_drivers::path_of(const device& which) const {
  return folder_ + "/" + to_string(which.where);
}

result<> old_drivers::remember(writer& writes, const device& which) const {
  return writes.keep(path_of(which), fmt::format("{:04x}:{:04x} {}\n", which.ids.vendor,
                                                 which.ids.device, which.driver));
}

void old_drivers::forget(writer& writes, const device& which) const {
  writes.forget(path_of(which));
}

std::optional<std::string> old_drivers::recall(const device& which) const {
  const auto text = files_.text(path_of(which));
  const std::string prefix = fmt::format("{:04x}:{:04x} ", which.ids.vendor, which.ids.device);
  if (!text || !text->starts_with(prefix)) {  // another device sits there now
    return std::nullopt;
  }
  std::string driver = text->substr(prefix.size());
  return driver.find('/') == std::string::npos ? std::optional{std::move(driver)} : std::nullopt;
}

outcome<> bind(writer& writes, const old_drivers& memory, const device& which) {
  const std::string name = to_string(which.where);
  const std::string override = override_path(which);
  std::vector<step> steps{{override, std::string{vfio_driver}}};
  std::vector<step> back{{override, std::string{no_override}}};
  if (!which.driver.empty()) {
    steps.push_back({driver_file(which.driver, "unbind"), name});
    back.push_back({driver_file(which.driver, "bind"), name});
  }
  steps.push_back({driver_file(vfio_driver, "bind"), name});
  std::vector<std::string> paths;
  std::ranges::transform(steps, std::back_inserter(paths), &step::path);
  if (auto allowed = check_writable("bind", writes, which, paths); !allowed) {
    return allowed;
  }
  // Nobody's, but known: it was to be given back and was not. What it had first counts.
  const bool known = which.driver.empty() && memory.recall(which).has_value();
  if (const result<> kept = known ? result<>{} : memory.remember(writes, which); !kept) {
    return fail(kept.error(), "bind", name_of(which.where),
                "its driver is not taken away when that cannot be remembered");
  }
  std::size_t done = 0;
  auto bound = take_steps("bind", writes, which, steps, done);
  if (bound) {
    return bound;
  }
  if (done + 1 < steps.size()) {  // its driver has not let go of it
    back.resize(std::min<std::size_t>(done, 1));
  }
  if (!take_steps("bind", writes, which, back, done)) {
    bound.error().hint += "; `runnel unbind " + name + "` gives it back to its driver";
  } else if (!known) {
    memory.forget(writes, which);
  }
  return bound;
}

outcome<> unbind(const file_tree& files, writer& writes, const old_drivers& memory,
                 const device& which) {
  const std::string name = to_string(which.where);
  const auto old = memory.recall(which);
  std::vector<step> steps{{override_path(which), std::string{no_override}}};
  if (!which.driver.empty()) {
    steps.push_back({driver_file(which.driver, "unbind"), name});
  }
  if (!old) {
    steps.push_back({probe_path, name});
  } else if (!old->empty()) {
    steps.push_back({driver_file(*old, "bind"), name});
  }
  if (auto allowed = check_writable("unbind", writes, which, {steps.front().path}); !allowed) {
    return allowed;
  }
  if (old && !old->empty()) {
    const std::string& path = steps.back().path;
    if (const result<> there = writes.may_write(path); !there) {
      return fail(there.error(), "unbind", name_of(which.where),
                  fmt::format("its driver {0} is not there: run `modprobe {0}`", *old));
    }
  }
  std::size_t done = 0;
  auto given_back = take_steps("unbind", writes, which, steps, done);
  if (given_back) {
    memory.forget(writes, which);
  } else if (given_back.error().what.code == errc::timed_out) {
    given_back.error().hint = who_keeps(files, which);
  }
  return given_back;
}

}  // namespace runnel::pci
