// Goal: a file is a disk: what is written is in the file, whichever way the kernel lets us take,
// and what cannot be is refused with a remedy or a status. Method: temporary files, checked with
// pread; every test of data runs over io_uring and pread/pwrite, O_DIRECT and page cache, 512 and
// 4096.
#include "drivers/uring/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "drivers/uring/file_rig.h"
#include "drivers/uring/opened_file.h"
#include "drivers/uring/ring_queue.h"
#include "mempool/base/units.h"
#include "mempool/window.h"

namespace runnel::uring {
namespace {

// NOLINTNEXTLINE(readability-identifier-naming): a fixture's name is its suite's
class FileDisk : public file_ways {};
INSTANTIATE_TEST_SUITE_P(Ways, FileDisk, all_ways(), way_name);

TEST_P(FileDisk, ReadsWhatIsInTheFile) {
  constexpr unsigned seed = 1;
  std::mt19937 random{seed};
  temporary_file file{256 * kib};
  const bytes content = random_bytes(256 * kib, random);
  file.write(content);
  auto disk = open_disk(file, options());
  EXPECT_EQ(disk->info().block_count * disk->info().block_bytes, 256 * kib);
  auto queue = queue_of(*disk);
  bytes seen(256 * kib);
  const segment all{.address = seen.data(), .length = seen.size()};
  EXPECT_EQ(run(*queue, request_for({&all, 1}, block_op::read, 0,
                                    static_cast<std::uint32_t>(disk->info().block_count))),
            block_status::success);
  EXPECT_EQ(seen, content);
}

TEST_P(FileDisk, RandomReadsAndWritesInAnyPiecesAgreeWithTheFile) {
  constexpr unsigned seed = 2;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  constexpr std::size_t size = 256 * kib;
  temporary_file file{size};
  bytes model = random_bytes(size, random);
  file.write(model);
  auto disk = open_disk(file, options());
  auto queue = queue_of(*disk);
  for (int step = 0; step < 150; ++step) {
    const std::uint64_t first = random() % disk->info().block_count;
    const auto blocks = static_cast<std::uint32_t>(
        1 + random() % std::min<std::uint64_t>(9, disk->info().block_count - first));
    const auto place = model.begin() + static_cast<std::ptrdiff_t>(first * block());
    bytes data = random_bytes(std::size_t{blocks} * block(), random);
    const auto pieces = random_pieces(data, random);
    const bool write = random() % 2 == 0;
    const bytes wanted = concatenate(pieces);
    if (write) {
      std::copy(wanted.begin(), wanted.end(), place);
    }
    ASSERT_EQ(
        run(*queue, request_for(pieces, write ? block_op::write : block_op::read, first, blocks)),
        block_status::success);
    const bytes moved = concatenate(pieces);
    ASSERT_TRUE(std::equal(moved.begin(), moved.end(), place)) << "step " << step;
  }
  EXPECT_EQ(run(*queue, {.op = block_op::flush}), block_status::success);
  EXPECT_EQ(file.read(size), model);
}

TEST_P(FileDisk, PageAlignedSegmentsOfAWholeTransferArriveInOrder) {
  temporary_file file{2 * mib};
  auto disk = open_disk(file, options());
  auto queue = queue_of(*disk);
  auto memory = window::create({.bytes = 4 * mib, .huge = false});
  ASSERT_TRUE(memory);
  auto area = memory->allocate(2 * mib, 4096);
  ASSERT_TRUE(area);
  std::vector<segment> pieces;  // every other page: nothing merges
  for (std::size_t page = 0; page < 256; ++page) {
    const auto place = area->subspan(page * 8192, 4096);
    std::ranges::fill(place, static_cast<std::byte>(page + 1));
    pieces.push_back({.address = place.data(), .length = 4096, .memory = &memory->memory()});
  }
  const auto blocks = static_cast<std::uint32_t>(mib / block());
  EXPECT_EQ(run(*queue, request_for(pieces, block_op::write, blocks, blocks)),
            block_status::success);
  EXPECT_EQ(run(*queue, {.op = block_op::flush}), block_status::success);
  const bytes content = file.read(2 * mib);
  for (std::size_t page = 0; page < 256; ++page) {
    ASSERT_EQ(content[mib + page * 4096 + page], static_cast<std::byte>(page + 1));
    ASSERT_EQ(content[page * 4096], std::byte{0});
  }
}

TEST_P(FileDisk, DurableWritesAndFlushesSucceedAndAreInTheFile) {
  temporary_file file{64 * kib};
  auto disk = open_disk(file, options());
  EXPECT_TRUE(disk->info().volatile_cache);
  auto queue = queue_of(*disk);
  bytes data(block(), std::byte{5});
  const segment piece{.address = data.data(), .length = data.size()};
  auto durable = request_for({&piece, 1}, block_op::write, 1, 1);
  durable.force_unit_access = true;
  EXPECT_EQ(run(*queue, durable), block_status::success);
  EXPECT_EQ(run(*queue, {.op = block_op::flush}), block_status::success);
  EXPECT_EQ(file.read(2 * block())[block()], std::byte{5});
}

TEST_P(FileDisk, RequestsThatCannotBeAreRefusedByStatus) {
  temporary_file file{2 * mib};
  auto disk = open_disk(file, options());
  auto queue = queue_of(*disk);
  const std::uint64_t end = disk->info().block_count;
  bytes data(2 * mib);
  const auto status = [&](std::uint64_t first, std::uint32_t blocks, std::size_t length) {
    const segment piece{.address = data.data(), .length = length};
    return run(*queue, request_for({&piece, 1}, block_op::read, first, blocks));
  };
  EXPECT_EQ(status(end - 1, 1, block()), block_status::success);
  EXPECT_EQ(status(end, 1, block()), block_status::lba_out_of_range);
  EXPECT_EQ(status(end - 1, 2, 2 * block()), block_status::lba_out_of_range);
  EXPECT_EQ(status(~std::uint64_t{0}, 1, block()), block_status::lba_out_of_range);
  EXPECT_EQ(status(0, 0, 0), block_status::invalid_field);
  EXPECT_EQ(status(0, 1, block() - 1), block_status::invalid_field);
  const auto too_many = static_cast<std::uint32_t>(mib / block() + 1);
  EXPECT_EQ(status(0, too_many, std::size_t{too_many} * block()), block_status::invalid_field);
  const std::vector<segment> crumbs(block(), segment{.address = data.data(), .length = 1});
  EXPECT_EQ(run(*queue, request_for(crumbs, block_op::read, 0, 1)), block_status::invalid_field);
  EXPECT_EQ(run(*queue, {.op = block_op{9}}), block_status::invalid_opcode);
}

TEST_P(FileDisk, AFileThatShrinksAnswersWithAnErrorNotWithOldBytes) {
  temporary_file file{64 * kib};
  auto disk = open_disk(file, options());
  auto queue = queue_of(*disk);
  file.resize(32 * kib);
  bytes data(16 * kib);
  const segment piece{.address = data.data(), .length = data.size()};
  const auto blocks = static_cast<std::uint32_t>(16 * kib / block());
  const auto read_at = [&](std::uint64_t position) {
    return run(*queue, request_for({&piece, 1}, block_op::read, position / block(), blocks));
  };
  EXPECT_EQ(read_at(0), block_status::success);
  EXPECT_EQ(read_at(24 * kib), block_status::unrecovered_read_error);  // half of it is there
  EXPECT_EQ(read_at(48 * kib), block_status::unrecovered_read_error);
  EXPECT_EQ(read_at(16 * kib), block_status::success);
}

TEST_P(FileDisk, AReadOnlyDiskRefusesWritesAndServesReads) {
  temporary_file file{64 * kib};
  file_options read_only = options();
  read_only.read_only = true;
  auto disk = open_disk(file, read_only);
  auto queue = queue_of(*disk);
  bytes data(block());
  const segment piece{.address = data.data(), .length = data.size()};
  EXPECT_EQ(run(*queue, request_for({&piece, 1}, block_op::write, 0, 1)),
            block_status::write_protected);
  for (const block_op op : {block_op::write_zeroes, block_op::deallocate}) {
    EXPECT_EQ(run(*queue, request_for({}, op, 0, 1)), block_status::write_protected);
  }
  EXPECT_EQ(run(*queue, request_for({&piece, 1}, block_op::read, 0, 1)), block_status::success);
}

// The memory is not aligned, so that places for the detour run out on the way.
TEST(RingDisk, ManyRequestsAreInFlightAndEachCompletesOnce) {
  temporary_file file{mib};
  auto disk = open_disk(file, {.block_bytes = 4096});
  auto queue = queue_of(*disk, 16);
  std::vector<bytes> data(16, bytes(4096));
  std::vector<segment> pieces;
  std::vector<block_request> burst;
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i].assign(4096, static_cast<std::byte>(i + 1));
    pieces.push_back({.address = data[i].data(), .length = 4096});
  }
  for (std::size_t i = 0; i < data.size(); ++i) {
    burst.push_back(request_for({&pieces[i], 1}, block_op::write, 2 * i, 1));
    burst.back().tag = 100 + i;
  }
  std::vector<int> ended(16);
  std::span<block_request> rest{burst};
  for (std::size_t count = 0; count < 16;) {
    queue->submit(rest);
    while (!rest.empty() && rest.front().state == block_state::pending) {
      rest = rest.subspan(1);
    }
    queue->flush();
    for (const auto& completion : collect(*queue, 1)) {
      EXPECT_EQ(completion.status, block_status::success);
      ++ended.at(completion.tag - 100);
      ++count;
    }
  }
  EXPECT_EQ(ended, std::vector<int>(16, 1));
  std::array<block_completion, 4> none{};
  EXPECT_EQ(queue->poll(none), 0U);
  const bytes content = file.read(mib);
  for (std::size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(content[i * 8192 + 77], static_cast<std::byte>(i + 1));
  }
}

TEST(RingDisk, AFullQueueRefusesTheRestOfABurstAndTakesItLater) {
  temporary_file file{64 * kib};
  auto disk = open_disk(file, {.direct = false});
  auto queue = queue_of(*disk, 2);
  EXPECT_EQ(queue->depth(), 2U);
  bytes data(512);
  const segment piece{.address = data.data(), .length = 512};
  std::array<block_request, 4> burst{};
  burst.fill(request_for({&piece, 1}, block_op::read, 0, 1));
  burst[3].first = lba{1 << 20};  // wrong as well, but its turn has not come
  queue->submit(burst);
  EXPECT_EQ(burst[0].state, block_state::pending);
  EXPECT_EQ(burst[1].state, block_state::pending);
  EXPECT_EQ(burst[2].state, block_state::refused);
  EXPECT_EQ(burst[3].state, block_state::refused);
  queue->flush();
  collect(*queue, 2);
  queue->submit(std::span{burst}.last(2));
  EXPECT_EQ(burst[2].state, block_state::pending);
  EXPECT_EQ(burst[3].state, block_state::done);
  EXPECT_EQ(burst[3].status, block_status::lba_out_of_range);
  queue->flush();
  collect(*queue, 1);
}

TEST(RingDisk, PinnedMemoryReadsAndWritesTheSameBytes) {
  temporary_file file{mib};
  auto memory = window::create({.bytes = 4 * mib, .huge = false});
  ASSERT_TRUE(memory);
  auto disk = open_disk(file, {.block_bytes = 4096, .pinned = &memory->memory()});
  auto queue = queue_of(*disk);
  auto area = memory->allocate(64 * kib, 4096);
  ASSERT_TRUE(area);
  std::ranges::fill(*area, std::byte{0x5a});
  const segment piece{.address = area->data(), .length = area->size(), .memory = &memory->memory()};
  EXPECT_EQ(run(*queue, request_for({&piece, 1}, block_op::write, 8, 16)), block_status::success);
  std::ranges::fill(*area, std::byte{0});
  EXPECT_EQ(run(*queue, request_for({&piece, 1}, block_op::read, 8, 16)), block_status::success);
  EXPECT_TRUE(std::ranges::all_of(*area, [](std::byte b) { return b == std::byte{0x5a}; }));
  bytes elsewhere(4096);  // memory that is not registered still works beside it
  const segment other{.address = elsewhere.data(), .length = 4096};
  EXPECT_EQ(run(*queue, request_for({&other, 1}, block_op::read, 8, 1)), block_status::success);
  EXPECT_EQ(elsewhere, bytes(4096, std::byte{0x5a}));
}

TEST(RingDisk, MemoryThatCannotBeRegisteredIsNotedAndDoesNoHarm) {
  temporary_file file{mib};
  const region nowhere{.address = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 30U),
                       .length = 4096};  // not mapped
  auto disk = open_disk(file, {.direct = false, .pinned = &nowhere});
  auto queue = queue_of(*disk);
  EXPECT_NE(disk->info().note.find("ulimit -l"), std::string::npos) << disk->info().note;
  bytes data(512);
  const segment piece{.address = data.data(), .length = 512};
  EXPECT_EQ(run(*queue, request_for({&piece, 1}, block_op::read, 0, 1)), block_status::success);
}

TEST(RingDisk, WhereTheKernelRefusesARingRequestsGoByPreadAndANoteSaysSo) {
  temporary_file file{mib};
  auto disk = open_disk(file, {.direct = false});
  EXPECT_EQ(disk->info().note, "");
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  setrlimit(RLIMIT_NOFILE, &none);
  auto queue = queue_of(*disk);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_NE(disk->info().note.find("io_uring is refused"), std::string::npos) << disk->info().note;
  bytes data(512, std::byte{1});
  const segment piece{.address = data.data(), .length = 512};
  auto request = request_for({&piece, 1}, block_op::write, 0, 1);
  queue->submit({&request, 1});
  EXPECT_EQ(request.state, block_state::done);
  EXPECT_EQ(request.status, block_status::success);
  EXPECT_EQ(file.read(1)[0], std::byte{1});
}

TEST(RingDisk, AQueueMayBeDestroyedWithRequestsUnpublishedOrInFlight) {
  temporary_file file{mib};
  auto disk = open_disk(file, {.block_bytes = 4096});
  bytes data(4096);
  const segment piece{.address = data.data(), .length = 4096};
  auto request = request_for({&piece, 1}, block_op::read, 0, 1);
  auto unpublished = queue_of(*disk);
  unpublished->submit({&request, 1});
  unpublished.reset();
  auto in_flight = queue_of(*disk);
  in_flight->submit({&request, 1});
  in_flight->flush();
  in_flight.reset();
}

/// A pipe stands for a file: what was read from it is no longer there.
TEST(RingDisk, EightRequestsAreOnTheirWayBeforeTheTurnEndsAndFewerWaitForIt) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const unique_fd feed{ends[1]};
  const opened_file file{.fd = unique_fd{ends[0]},
                         .geometry = {.transfer_bytes_max = 4096, .block_count = 8},
                         .note = {}};
  auto made = ring_queue::create(file, 32, nullptr);
  if (!made) {
    GTEST_SKIP() << "io_uring is refused here";
  }
  ring_queue& queue = **made;
  const bytes data(22 * 512);
  ASSERT_EQ(write(feed.get(), data.data(), data.size()), std::ssize(data));
  const auto bytes_left = [&file] {
    int left = -1;
    EXPECT_EQ(ioctl(file.fd.get(), FIONREAD, &left), 0);
    return left;
  };
  bytes seen(512);
  const segment piece{.address = seen.data(), .length = seen.size()};
  std::array<block_request, 15> burst{};
  burst.fill(request_for({&piece, 1}, block_op::read, 0, 1));
  queue.submit(std::span{burst}.first(7));
  EXPECT_EQ(bytes_left(), 22 * 512);
  queue.flush();
  EXPECT_EQ(bytes_left(), 15 * 512);
  queue.submit(burst);
  EXPECT_EQ(bytes_left(), 7 * 512) << "of one long burst, too, the first eight do not wait";
  queue.flush();
  EXPECT_EQ(bytes_left(), 0);
  collect(queue, 22);
}

/// A pipe stands for a file: the kernel has something to read when the test says so.
TEST(RingDisk, AnArmedQueueTellsWhenARequestHasEndedAndADisarmedOneDoesNot) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const unique_fd feed{ends[1]};
  const opened_file file{.fd = unique_fd{ends[0]},
                         .geometry = {.transfer_bytes_max = 4096, .block_count = 8},
                         .note = {}};
  auto made = ring_queue::create(file, 8, nullptr);
  if (!made) {
    GTEST_SKIP() << "io_uring is refused here";
  }
  ring_queue& queue = **made;
  const auto told = [&](int milliseconds) {
    pollfd bell{.fd = queue.wake_fd(), .events = POLLIN, .revents = 0};
    return poll(&bell, 1, milliseconds) == 1;
  };
  bytes data(512);
  const segment piece{.address = data.data(), .length = data.size()};
  for (const bool armed : {true, false, true}) {
    block_request request = request_for({&piece, 1}, block_op::read, 0, 1);
    queue.submit({&request, 1});
    EXPECT_FALSE(queue.arm()) << "it is not published";
    queue.flush();
    ASSERT_TRUE(queue.arm());
    std::array<block_completion, 1> none{};
    EXPECT_EQ(queue.poll(none), 0U);
    EXPECT_FALSE(told(0));
    if (!armed) {
      queue.disarm();
    }
    ASSERT_EQ(write(feed.get(), data.data(), data.size()), 512);
    EXPECT_EQ(told(armed ? 10'000 : 0), armed);
    queue.disarm();
    EXPECT_FALSE(told(0));
    ASSERT_EQ(eventfd_write(queue.wake_fd(), 1), 0);  // as the kernel, late
    queue.disarm();
    EXPECT_FALSE(told(0));
    collect(queue, 1);
  }
}

TEST(FileOpen, WhatIsNoDiskIsRefusedWithObjectAndRemedy) {
  const temporary_file empty{0};
  const temporary_file small{100};
  const temporary_file odd{1000};
  const std::string fifo = empty.folder() + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  struct {
    std::string path;
    std::uint32_t block_bytes;
    const char* says;
  } const table[] = {
      {empty.folder() + "/absent", 512, "No such file or directory; create it first"},
      {empty.folder(), 512, "Is a directory; name a file in it"},
      {fifo, 512, "neither a file nor a block device"},
      {empty.path(), 512, "0 bytes are less than one block of 512"},
      {small.path(), 512, "100 bytes are less than one block of 512"},
      {odd.path(), 512, "1000 bytes are not a multiple of the block size 512; make it 512"},
      {odd.path(), 4096, "1000 bytes are less than one block of 4096"},
      {odd.path(), 1000, "not 1000"},
  };
  for (const auto& row : table) {
    auto refused = open_file("file:" + row.path, row.path, {.block_bytes = row.block_bytes});
    ASSERT_FALSE(refused) << row.path;
    EXPECT_EQ(refused.error().object, "file:" + row.path);
    EXPECT_NE(refused.error().message().find(row.says), std::string::npos)
        << refused.error().message();
  }
  unlink(fifo.c_str());
}

TEST(FileOpen, AFileThatMayNotBeReadSaysSo) {
  constexpr uid_t nobody = 65534;
  const temporary_file file{4096};
  ASSERT_EQ(chmod(file.folder().c_str(), 0755), 0);
  ASSERT_EQ(chmod(file.path().c_str(), 0), 0);
  const uid_t user = geteuid();
  if (user == 0) {  // may read everything, so become somebody else for a moment
    ASSERT_EQ(seteuid(nobody), 0);
  }
  auto refused = open_file("file:x", file.path(), {});
  auto refused_read = open_file("file:x", file.path(), {.read_only = true});
  ASSERT_EQ(seteuid(user), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "open file:x: Permission denied; this user may not read and write it");
  ASSERT_FALSE(refused_read);
  EXPECT_EQ(refused_read.error().message(),
            "open file:x: Permission denied; this user may not read it");
}

TEST(FileOpen, DepthsOutsideTheLimitAreRefusedWithTheLimit) {
  const temporary_file file{4096};
  auto disk = open_disk(file, {});
  for (const std::uint32_t depth : {0U, disk->info().queue_depth_max + 1}) {
    auto refused = disk->make_queue(depth);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find(std::to_string(disk->info().queue_depth_max)),
              std::string::npos);
  }
}

/// The descriptor of the only ring that is open here; -1: there is none.
int find_ring() {
  for (int fd = 0; fd < 256; ++fd) {
    std::array<char, 64> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    if (::readlink(link.c_str(), target.data(), target.size() - 1) > 0 &&
        std::string{target.data()} == "anon_inode:[io_uring]") {
      return fd;
    }
  }
  return -1;
}

TEST(RingDisk, ARingThatIsUsedTakesNothingThatADiskDoesNotNeed) {
  temporary_file file{4 * kib};
  auto disk = open_disk(file, {});
  auto queue = queue_of(*disk);
  const int ring = find_ring();
  if (::syscall(SYS_io_uring_enter, ring, 0, 0, 0, nullptr, 0) == 0 || errno != EBADFD) {
    GTEST_SKIP() << "no io_uring, or none that is enabled late (before Linux 6.1)";
  }
  bytes data(4 * kib);
  const segment all{.address = data.data(), .length = data.size()};
  ASSERT_EQ(run(*queue, request_for({&all, 1}, block_op::read, 0, 8)), block_status::success);
  alignas(io_uring_probe) std::array<std::byte, sizeof(io_uring_probe)> probe{};
  EXPECT_EQ(io_uring_register(static_cast<unsigned>(ring), IORING_REGISTER_PROBE, probe.data(), 0),
            -EACCES);
}

}  // namespace
}  // namespace runnel::uring
