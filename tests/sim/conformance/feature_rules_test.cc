// Goal: whoever is asked for a feature answers by the kernel's rules and in their order, whether it
// knows the feature or not. Method: the rules once more, as one function, beside what was answered;
// a disk and a sample device of kernels, and our server with a model that migrates.
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "drivers/vfio/uapi/features.h"
#include "drivers/vfio/uapi/vfio.h"
#include "drivers/vfio/user_client.h"
#include "drivers/vfio_user/feature.h"
#include "drivers/vfio_user/server.h"
#include "tests/sim/conformance/bare_user.h"
#include "tests/sim/conformance/suite.h"
#include "tests/sim/quiet_model.h"

namespace runnel::sim {
namespace {

namespace feature = vfio::uapi::features;
namespace flag = vfio::uapi::feature_flags;

/// A feature that is there: what may be done with it, and how long its structure is.
struct offered {
  std::uint32_t number;
  std::uint32_t ops;
  std::size_t bytes_min;
};
using offer = std::vector<offered>;

/// The errno. @spec Linux vfio_ioctl_device_feature, vfio_check_feature
[[nodiscard]] int rule(const offer& all, std::uint32_t flags, std::size_t bytes) {
  const std::uint32_t ops = flags & (flag::get | flag::set);
  const bool is_probe = (flags & flag::probe) != 0;
  if ((flags & ~flag::all) != 0 || (ops == (flag::get | flag::set) && !is_probe)) {
    return EINVAL;
  }
  const auto known = std::ranges::find(all, flags & flag::feature_mask, &offered::number);
  if (known == all.end()) {
    return ENOTTY;
  }
  if ((ops & ~known->ops) != 0) {
    return EINVAL;
  }
  return is_probe || (ops != 0 && bytes >= known->bytes_min) ? 0 : EINVAL;
}

/// Asks somebody. @return the errno
using ask = std::function<int(std::uint32_t flags, std::size_t bytes)>;

struct asked_one {
  std::string name;
  offer all;
  std::function<ask()> begin;

  // NOLINTNEXTLINE(readability-identifier-naming): googletest's word
  friend void PrintTo(const asked_one& one, std::ostream* to) { *to << one.name; }
};

[[nodiscard]] int number_of(error status) {
  EXPECT_TRUE(status == error{} || status.code == errc::os) << to_string(status);
  return static_cast<int>(status.detail);
}

/// Whoever turns until a device has answered.
template <class Turn>
[[nodiscard]] int ask_transport(vfio::device_transport& device, const Turn& turn,
                                std::uint32_t flags, std::size_t bytes) {
  const std::vector<std::byte> data(bytes);
  const auto started = device.device_feature(flags, data);
  if (!started) {
    return number_of(started.error());
  }
  for (int turns = 0; turns < 1000; ++turns) {
    if (const auto reply = device.take(*started)) {
      return number_of(reply->status);
    }
    turn();
  }
  ADD_FAILURE() << "no answer";
  return EIO;
}

[[nodiscard]] asked_one disk(const subject_kind& kind) {
  const bool sleeps = kind.how != way::vfio_user && kind.kernel_version >= 601;
  return {.name = kind.name,
          .all = sleeps ? offer{{feature::low_power_entry, flag::set, 0},
                                {feature::low_power_entry_with_wakeup, flag::set, 8},
                                {feature::low_power_exit, flag::set, 0}}
                        : offer{},
          .begin = [kind]() -> ask {
            const std::shared_ptr<subject> under = kind.make();  // NOLINT: std::function copies
            under->open();
            return [under](std::uint32_t flags, std::size_t bytes) {
              return ask_transport(under->transport(), [&] { under->turn(); }, flags, bytes);
            };
          }};
}

/// A model that has no use for what it is told, and says that it migrates and logs.
class migrating_model final : public quiet_model {
 public:
  migrating_model() {
    layout_.flags = vfio::uapi::device_flags::pci;
    layout_.regions.resize(9);
    layout_.irqs.resize(5);
    layout_.migration_flags = vfio::uapi::migration_flags::stop_copy;
    layout_.dirty_log = true;
  }
  const vfio_user::device_layout& init() override { return layout_; }
  answer migration_get_state(std::uint32_t&) override { return answer::ok(); }
  answer migration_get_data_size(std::uint64_t&) override { return answer::ok(); }

 private:
  vfio_user::device_layout layout_;
};

class served_model {
 public:
  served_model() {
    auto [near, far] = vfio_user::memory_channel_pair(1);
    server_->attach(std::move(far));
    client_ = std::make_unique<vfio::user_client>(std::move(near),
                                                  vfio::client_options{.object = "vfio-user:test"});
    while (client_->state() == vfio::transport_state::connecting) {
      turn();
    }
  }
  served_model(const served_model&) = delete;
  served_model& operator=(const served_model&) = delete;
  ~served_model() {
    client_.reset();
    while (server_->state() != vfio_user::server_state::idle) {
      server_->advance(now_);
    }
  }
  [[nodiscard]] int ask(std::uint32_t flags, std::size_t bytes) {
    return ask_transport(*client_, [this] { turn(); }, flags, bytes);
  }

 private:
  void turn() {
    client_->advance(now_ += std::chrono::microseconds{10});
    server_->advance(now_);
  }
  migrating_model model_;
  std::unique_ptr<vfio_user::server> server_ = std::move(*vfio_user::server::create(model_, {}));
  std::unique_ptr<vfio::user_client> client_;
  instant now_{};
};

[[nodiscard]] asked_one model() {
  return {
      .name = "vfio_user_model",
      .all = {{feature::migration, flag::get, 8},
              {feature::mig_device_state, flag::get | flag::set, 8},
              {feature::dma_logging_start, flag::set, sizeof(vfio_user::feature_dma_logging_start)},
              {feature::dma_logging_stop, flag::set, 0},
              {feature::dma_logging_report, flag::get,
               sizeof(vfio_user::feature_dma_logging_report)},
              {feature::mig_data_size, flag::get, 8}},
      .begin = []() -> ask {
        const auto under = std::make_shared<served_model>();  // NOLINT: std::function copies
        return [under](std::uint32_t flags, std::size_t bytes) { return under->ask(flags, bytes); };
      }};
}

/// The kernel's sample of a device that migrates. @param name  "UUID GROUP"
[[nodiscard]] asked_one sample(const std::string& name) {
  return {.name = "real_mtty",
          .all = {{feature::migration, flag::get, 8},
                  {feature::mig_device_state, flag::get | flag::set, 8},
                  {feature::dma_logging_start, flag::set,
                   sizeof(vfio::uapi::device_feature_dma_logging_control)},
                  {feature::dma_logging_stop, flag::set, 0},
                  {feature::dma_logging_report, flag::get,
                   sizeof(vfio::uapi::device_feature_dma_logging_report)},
                  {feature::mig_data_size, flag::get, 8}},
          .begin = [name]() -> ask {
            const std::size_t space = name.find(' ');
            const auto user = std::make_shared<bare_user>(  // NOLINT: std::function copies
                kernel_side{.system = &vfio::real_syscalls(),
                            .address = name.substr(0, space),
                            .group = std::stoi(name.substr(space + 1)),
                            .node = {}},
                way::group);
            user->open_all();
            return [user](std::uint32_t flags, std::size_t bytes) {
              std::vector<std::byte> asked(sizeof(vfio::uapi::device_feature) + bytes);
              const vfio::uapi::device_feature head{
                  .argsz = static_cast<std::uint32_t>(asked.size()), .flags = flags};
              std::memcpy(asked.data(), &head, sizeof(head));
              return user->ask(user->device, vfio::uapi::ioctls::device_feature, *asked.data());
            };
          }};
}

[[nodiscard]] std::vector<asked_one> all_asked() {
  std::vector<asked_one> all;
  for (const subject_kind& kind : subject_kinds()) {
    all.push_back(disk(kind));
  }
  all.push_back(model());
  if (const char* const named = std::getenv("RUNNEL_MTTY")) {
    all.push_back(sample(named));
  }
  return all;
}

class FeatureRules : public testing::TestWithParam<asked_one> {
 protected:
  /// Whether nothing comes of it but its answer.
  [[nodiscard]] static bool is_harmless(std::uint32_t flags, int answer) {
    const bool is_report = (flags & flag::feature_mask) == feature::dma_logging_report;
    return answer != 0 || (flags & flag::probe) != 0 || ((flags & flag::get) != 0 && !is_report);
  }
};

INSTANTIATE_TEST_SUITE_P(Each, FeatureRules, testing::ValuesIn(all_asked()),
                         [](const auto& one) { return one.param.name; });

TEST_P(FeatureRules, EveryCombinationIsAnsweredByThem) {
  constexpr std::uint32_t nobodys = 0x6fff;
  constexpr std::uint32_t reserved = 1U << 20;
  const ask under = GetParam().begin();
  std::vector<std::uint32_t> numbers{nobodys};
  for (std::uint32_t number = 0; number <= feature::bus_master; ++number) {
    numbers.push_back(number);
  }
  int asked = 0;
  for (const std::uint32_t number : numbers) {
    for (const std::uint32_t ops : {0U, flag::get, flag::set, flag::get | flag::set}) {
      for (const std::uint32_t more : {0U, flag::probe, reserved}) {
        for (const std::size_t bytes : {0U, 4U, 7U, 8U, 15U, 16U, 23U, 24U, 31U, 32U, 64U}) {
          const std::uint32_t flags = number | ops | more;
          const int expected = rule(GetParam().all, flags, bytes);
          if (is_harmless(flags, expected)) {
            EXPECT_EQ(under(flags, bytes), expected) << std::hex << flags << " " << bytes;
            ++asked;
          }
        }
      }
    }
  }
  EXPECT_GT(asked, 1000);
}

}  // namespace
}  // namespace runnel::sim
