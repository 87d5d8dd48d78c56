#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/cli/command.h"
#include "drivers/pci/bindable.h"
#include "drivers/pci/binding.h"

namespace runnel::cli {
namespace {

/// Drivers shut their devices down for this; a second of it is much.
constexpr nanoseconds write_limit = std::chrono::seconds{15};

/// Prints what would be done, in the words of a shell.
class dry_writer final : public pci::writer {
 public:
  result<> may_write(std::string_view) override { return {}; }
  result<> write(std::string_view path, std::string_view text) override {
    fmt::print("echo{}{} > {}\n", text == "\n" ? "" : " ", text == "\n" ? "" : text, path);
    return {};
  }
  result<> keep(std::string_view path, std::string_view text) override {
    fmt::print("mkdir -p {} && echo {} > {}\n", path.substr(0, path.rfind('/')),
               text.substr(0, text.find('\n')), path);
    return {};
  }
  void forget(std::string_view path) override { fmt::print("rm -f {}\n", path); }
};

/// Where what devices had before is remembered until the machine boots anew.
std::string memory_folder() {
  const char* const own = secure_getenv("XDG_RUNTIME_DIR");
  const bool has_own = geteuid() != 0 && own != nullptr && *own == '/';
  return std::string{has_own ? own : "/run"} + "/runnel";
}

/// "0000:01:00.0", "01:00.0" or "pci:0000:01:00.0".
std::optional<pci::address> parse_device(std::string_view text) {
  constexpr std::string_view scheme = "pci:";
  return pci::parse_address(text.starts_with(scheme) ? text.substr(scheme.size()) : text);
}

/// What `bind` and `unbind` share: devices by address, all of them looked at before one is changed.
class binding_command : public command {
 public:
  binding_command(const char* name, const char* help) : name_{name}, help_{help} {}

  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self = program.add_subcommand(name_, help_);
    self->add_option("device", words_, "PCI addresses, as 0000:01:00.0 or 01:00.0")->required();
    self->add_flag("--dry-run", dry_, "print every write, do none");
    return self;
  }

  int run() override {
    std::vector<pci::address> wanted;
    for (const std::string& word : words_) {
      const auto where = parse_device(word);
      if (!where) {
        return report_usage(
            fmt::format("{} {}: no PCI address; write 0000:01:00.0 or 01:00.0", name_, word));
      }
      if (std::ranges::find(wanted, *where) == wanted.end()) {
        wanted.push_back(*where);
      }
    }
    std::vector<pci::device> found;
    for (const pci::address& where : wanted) {
      auto one = pci::read_device(files_, where);
      if (!one) {
        return report_failure(one.error());
      }
      found.push_back(std::move(*one));
    }
    const auto changed = change(found);
    return changed ? exit_ok : report_failure(changed.error());
  }

 protected:
  virtual outcome<> change(const std::vector<pci::device>& wanted) = 0;

  [[nodiscard]] const pci::file_tree& files() const noexcept { return files_; }
  [[nodiscard]] const pci::old_drivers& memory() const noexcept { return memory_; }
  [[nodiscard]] pci::writer& writes() noexcept {
    return dry_ ? static_cast<pci::writer&>(dry_writes_) : writes_;
  }
  /// Tells what became of a device; nothing has when nothing was to.
  void tell(const pci::device& before) const {
    const auto after = pci::read_device(files_, before.where);
    if (!dry_ && after) {
      const auto named = [](const std::string& driver) { return driver.empty() ? "none" : driver; };
      fmt::print("{}: {} -> {}\n", pci::to_string(before.where), named(before.driver),
                 named(after->driver));
    }
  }

 private:
  const char* name_;
  const char* help_;
  std::vector<std::string> words_;
  bool dry_ = false;
  pci::file_tree files_;
  pci::old_drivers memory_{files_, memory_folder()};
  pci::system_writer writes_{files_, write_limit};
  dry_writer dry_writes_;
};

class bind_command final : public binding_command {
 public:
  bind_command() : binding_command{"bind", "Take PCI devices from their drivers for VFIO"} {}

 private:
  outcome<> change(const std::vector<pci::device>& wanted) override {
    for (const pci::device& each : wanted) {
      if (each.driver == pci::vfio_driver) {
        continue;
      }
      if (auto allowed = pci::check_bindable(files(), each); !allowed) {
        return allowed;
      }
    }
    for (const pci::device& each : wanted) {
      if (each.driver == pci::vfio_driver) {
        fmt::print("{}: is vfio-pci's already\n", pci::to_string(each.where));
        continue;
      }
      if (auto bound = pci::bind(writes(), memory(), each); !bound) {
        return bound;
      }
      tell(each);
    }
    tell_notes(notes_on_groups(wanted));
    return {};
  }

  /// Members that keep a group from being used, unless they were bound along.
  static std::vector<std::string> notes_on_groups(const std::vector<pci::device>& bound) {
    std::vector<std::string> notes;
    for (const pci::device& each : bound) {
      for (const pci::group_member& member : pci::obstacles(each)) {
        const bool along = std::ranges::any_of(bound, [&member](const pci::device& other) {
          return pci::to_string(other.where) == member.name;
        });
        if (!along) {
          notes.push_back(fmt::format(
              "{} cannot be used while {} of its group {} is bound to {}; `runnel bind {}`",
              pci::to_string(each.where), member.name, *each.group, member.driver, member.name));
        }
      }
    }
    return notes;
  }
};

class unbind_command final : public binding_command {
 public:
  unbind_command()
      : binding_command{"unbind", "Give PCI devices back to the drivers that they had"} {}

 private:
  outcome<> change(const std::vector<pci::device>& wanted) override {
    for (const pci::device& each : wanted) {
      if (each.driver != pci::vfio_driver && !each.driver.empty()) {
        fmt::print("{}: is not vfio-pci's but {}'s\n", pci::to_string(each.where), each.driver);
        continue;
      }
      if (auto given = pci::unbind(files(), writes(), memory(), each); !given) {
        return given;
      }
      tell(each);
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<command> make_bind_command() {
  return std::make_unique<bind_command>();
}

std::unique_ptr<command> make_unbind_command() {
  return std::make_unique<unbind_command>();
}

}  // namespace runnel::cli
