// Goal: DEVICE_FEATURE answers as the kernel does, in the kernel's order of checks, whether or not
// a model has migration and logging. Method: tables of flags and sizes against a model that has
// them and one that does not.

#include "drivers/vfio_user/feature.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "drivers/vfio_user/server_testing.h"
#include "tests/sim/edge_numbers.h"
#include "tests/sim/quiet_model.h"

namespace runnel::vfio_user {
namespace {

using namespace vfio::uapi::feature_flags;
using sim::top;
using testing::bytes;
using testing::bytes_of;
using testing::operator+;

/// Has what `recording_model` lacks.
class migrating_model final : public sim::quiet_model {
 public:
  migrating_model() {
    layout.migration_flags = 5;
    layout.dirty_log = true;
  }
  const device_layout& init() override { return layout; }
  answer migration_set_state(request_id, std::uint32_t wanted) override {
    state = wanted;
    return answer::ok();
  }
  answer migration_get_state(std::uint32_t& out) override {
    out = state;
    return answer::ok();
  }
  answer migration_get_data_size(std::uint64_t& out) override {
    out = 4711;
    return answer::ok();
  }
  answer log_start(std::uint64_t page_bytes, std::span<const vfio::region_area> ranges) override {
    logged_page_bytes = page_bytes;
    logged.assign(ranges.begin(), ranges.end());
    return answer::ok();
  }
  answer log_stop() override {
    logged.clear();
    return answer::ok();
  }
  answer log_read_and_clear(std::uint64_t, std::uint64_t, std::span<std::byte> bitmap) override {
    std::ranges::fill(bitmap, std::byte{0xff});
    return answer::ok();
  }

  device_layout layout;
  std::uint32_t state = 2;
  std::uint64_t logged_page_bytes = 0;
  std::vector<vfio::region_area> logged;
};

int run(device_model& model, std::uint32_t flags, bytes data) {
  return run_feature(model, model.init(), request_id{1}, flags, data).errno_value();
}

TEST(Feature, HeaderRulesComeFirst) {
  EXPECT_EQ(check_feature_header(8, get), 0);
  EXPECT_EQ(check_feature_header(8, probe | get | set | 0xffff), 0);
  EXPECT_EQ(check_feature_header(7, get), EINVAL);
  EXPECT_EQ(check_feature_header(8, get | set), EINVAL);
  EXPECT_EQ(check_feature_header(8, 1U << 19U), EINVAL);
}

TEST(Feature, TheOrderOfChecksIsTheKernels) {
  struct row {
    const char* what;
    std::uint32_t flags;
    std::size_t bytes;
    std::uint32_t supported;
    int expected;  // -1: go on
  };
  const std::vector<row> rows{
      {"get", get, 8, get, -1},
      {"get more than needed", get, 80, get, -1},
      {"get with too little room", get, 7, get, EINVAL},
      {"set unsupported", set, 8, get, EINVAL},
      {"probe", probe, 0, get, 0},
      {"probe get", probe | get, 0, get, 0},
      {"probe get and set", probe | get | set, 0, get | set, 0},
      {"probe of what is not supported", probe | set, 8, get, EINVAL},
      {"nothing asked", 0, 8, get, EINVAL},
  };
  for (const row& each : rows) {
    const auto early = check_feature(each.flags, each.bytes, each.supported, 8);
    EXPECT_EQ(early ? early->errno_value() : -1, each.expected) << each.what;
  }
}

TEST(Feature, AModelWithoutThemAnswersEnottyToEverything) {
  testing::recording_model model;
  for (std::uint32_t number = 0; number < 20; ++number) {
    for (const std::uint32_t operation : {get, set, probe, probe | get}) {
      EXPECT_EQ(run(model, number | operation, bytes(64)), ENOTTY) << number;
    }
  }
}

TEST(Feature, OptionalOperationsOfAModelAreAbsentUnlessOverridden) {
  testing::recording_model model;
  model.layout.migration_flags = 1;
  model.layout.dirty_log = true;
  EXPECT_EQ(run(model, 2 | get, bytes(8)), ENOTTY);
  EXPECT_EQ(run(model, 2 | set, bytes(8)), ENOTTY);
  EXPECT_EQ(run(model, 9 | get, bytes(8)), ENOTTY);
  EXPECT_EQ(run(model, 7 | set, {}), ENOTTY);
  EXPECT_EQ(model.match_token_uuid({}), 0);
  EXPECT_EQ(model.match_token_uuid(bytes(16)), EINVAL);
}

TEST(Feature, MigrationReachesTheModel) {
  migrating_model model;
  bytes data(8);
  EXPECT_TRUE(run_feature(model, model.layout, {}, 1 | get, data).errno_value() == 0);
  EXPECT_EQ(read_wire<feature_migration>(data)->flags, 5U);
  EXPECT_EQ(run(model, 1 | set, bytes(8)), EINVAL);
  EXPECT_EQ(run(model, 2 | set, bytes_of(feature_mig_device_state{.device_state = 3})), 0);
  EXPECT_EQ(model.state, 3U);
  EXPECT_EQ(run(model, 2 | set, bytes(7)), EINVAL);
  EXPECT_EQ(run_feature(model, model.layout, {}, 2 | get, data).errno_value(), 0);
  EXPECT_EQ(read_wire<feature_mig_device_state>(data)->device_state, 3U);
  EXPECT_EQ(read_wire<feature_mig_device_state>(data)->data_fd, -1);
  EXPECT_EQ(run_feature(model, model.layout, {}, 9 | get, data).errno_value(), 0);
  EXPECT_EQ(read_wire<feature_mig_data_size>(data)->stop_copy_length, 4711U);
}

TEST(Feature, LoggingChecksItsRangesBeforeTheModelSeesThem) {
  migrating_model model;
  const auto start = [](std::uint64_t page_bytes, std::uint32_t ranges) {
    return bytes_of(feature_dma_logging_start{.page_size = page_bytes, .num_ranges = ranges});
  };
  const bytes range = bytes_of(vfio::region_area{.offset = 0x1000, .length = 0x2000});
  EXPECT_EQ(run(model, 6 | set, start(4096, 2) + range + range), 0);
  ASSERT_EQ(model.logged.size(), 2U);
  EXPECT_EQ(model.logged[1].length, 0x2000U);
  EXPECT_EQ(run(model, 6 | set, start(4096, 2) + range), EINVAL);
  EXPECT_EQ(run(model, 6 | set, start(4096, 0)), EINVAL);
  EXPECT_EQ(run(model, 6 | set, start(1000, 1) + range), EINVAL);
  EXPECT_EQ(run(model, 6 | set, start(4096, 257) + bytes(257 * 16)), E2BIG);
  EXPECT_EQ(run(model, 6 | set, start(4096, ~0U)), E2BIG);
  EXPECT_EQ(
      run(model, 6 | set, start(4096, 1) + bytes_of(vfio::region_area{.offset = top, .length = 2})),
      EOVERFLOW);
  EXPECT_EQ(run(model, 6 | get, start(4096, 1) + range), EINVAL);
  EXPECT_EQ(run(model, 7 | set, {}), 0);
  EXPECT_TRUE(model.logged.empty());
}

TEST(Feature, ADirtyReportNeedsRoomForItsBits) {
  migrating_model model;
  const auto report = [](std::uint64_t where, std::uint64_t length, std::uint64_t page_bytes) {
    return bytes_of(
        feature_dma_logging_report{.iova = where, .length = length, .page_size = page_bytes});
  };
  EXPECT_EQ(run(model, 8 | get, report(0, 64 * 4096, 4096) + bytes(8)), 0);
  EXPECT_EQ(run(model, 8 | get, report(0, 64 * 4096 + 1, 4096) + bytes(8)), EINVAL);
  EXPECT_EQ(run(model, 8 | get, report(0, 64 * 4096 + 1, 4096) + bytes(16)), 0);
  EXPECT_EQ(run(model, 8 | get, report(0, top, 4096) + bytes(64)), EINVAL);
  EXPECT_EQ(run(model, 8 | get, report(2, top, 4096) + bytes(64)), EOVERFLOW);
  EXPECT_EQ(run(model, 8 | get, report(0, 0, 4096) + bytes(8)), EINVAL);
  EXPECT_EQ(run(model, 8 | get, report(0, 4096, 0) + bytes(8)), EINVAL);
  bytes data = report(0, 4096, 4096) + bytes(16);
  EXPECT_EQ(run_feature(model, model.layout, {}, 8 | get, data).errno_value(), 0);
  EXPECT_EQ(data[24], std::byte{0xff});
  EXPECT_EQ(data[32], std::byte{0});  // beyond the bits that were asked for
}

}  // namespace
}  // namespace runnel::vfio_user
