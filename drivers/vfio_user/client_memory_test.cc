// Goal: a client's addresses lead to its own memory or nowhere, whatever it maps, unmaps or sends.
// Method: memfds as the client's memory, looked at from both sides; a table of refusals; and random
// maps and unmaps compared with a page table as simple as can be.

#include "drivers/vfio_user/client_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <map>
#include <random>
#include <vector>

#include "drivers/vfio_user/server_testing.h"
#include "mempool/base/sanitizer.h"
#include "tests/sim/edge_numbers.h"

namespace runnel::vfio_user {
namespace {

using sim::page;
using sim::top;
using testing::make_memory;
using testing::open_descriptors;

#if defined(RUNNEL_THREAD_SANITIZER)  // it leaves us less than the 16 TiB of all slots
constexpr bool all_slots_can_be_reserved = false;
#else
constexpr bool all_slots_can_be_reserved = true;
#endif

unique_fd copy_of(const unique_fd& fd) {
  return unique_fd{::dup(fd.get())};
}

/// The client's own view of its file.
class client_view {
 public:
  client_view(const unique_fd& fd, std::size_t length)
      : length_{length},
        data_{static_cast<std::uint8_t*>(
            ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0))} {}
  client_view(const client_view&) = delete;
  client_view& operator=(const client_view&) = delete;
  ~client_view() { ::munmap(data_, length_); }
  std::uint8_t& operator[](std::size_t offset) { return data_[offset]; }

 private:
  std::size_t length_;
  std::uint8_t* data_;
};

class ClientMemory : public ::testing::Test {
 protected:
  errc refusal(std::uint64_t first, std::uint64_t bytes, unique_fd fd, std::uint64_t offset = 0,
               access permissions = access::read_write) {
    const auto mapped = memory.map(iova{first}, bytes, permissions, std::move(fd), offset);
    return mapped ? errc::ok : mapped.error().code;
  }
  bool reaches(std::uint64_t first, std::uint64_t bytes, access wanted = access::read_write) {
    return memory.resolve(iova{first}, bytes, wanted).address != nullptr;
  }

  client_memory memory{std::move(*client_memory::create())};
  unique_fd file{make_memory(16 * page)};
};

TEST_F(ClientMemory, SharesTheClientsPages) {
  client_view view{file, 16 * page};
  const auto added =
      memory.map(iova{0x10000}, 4 * page, access::read_write, copy_of(file), 2 * page);
  ASSERT_TRUE(added);
  EXPECT_EQ((*added)->length, 4 * page);
  EXPECT_EQ((*added)->fd_offset, 2 * page);
  EXPECT_GE((*added)->fd, 0);
  EXPECT_EQ(raw((*added)->first_iova()), reinterpret_cast<std::uintptr_t>((*added)->address));
  view[2 * page + 5] = 77;
  const resolved found = memory.resolve(iova{0x10005}, 1, access::read_write);
  ASSERT_NE(found.address, nullptr);
  EXPECT_EQ(found.memory, *added);
  EXPECT_EQ(*found.address, std::byte{77});
  *found.address = std::byte{78};
  EXPECT_EQ(view[2 * page + 5], 78);
}

TEST_F(ClientMemory, ResolvesOnlyWhatIsMappedEntirely) {
  ASSERT_EQ(refusal(0x10000, 4 * page, copy_of(file)), errc::ok);
  struct row {
    std::uint64_t first;
    std::uint64_t bytes;
    bool there;
  };
  const std::vector<row> rows{
      {0x10000, 1, true},
      {0x10000, 4 * page, true},
      {0x13fff, 1, true},
      {0xffff, 1, false},
      {0xffff, 2, false},
      {0x14000, 1, false},
      {0x13fff, 2, false},
      {0x10000, 4 * page + 1, false},
      {0x10000, 0, false},
      {0x10000, top, false},
      {0x12000, top - 0x11000, false},
      {top, 1, false},
      {top, top, false},
      {0, top, false},
  };
  for (int pass = 0; pass < 2; ++pass) {  // the second time through the cached hit
    for (const row& each : rows) {
      EXPECT_EQ(reaches(each.first, each.bytes), each.there) << each.first << ' ' << each.bytes;
    }
  }
}

TEST_F(ClientMemory, PermissionsAreObeyed) {
  ASSERT_EQ(refusal(0x10000, page, copy_of(file), 0, access::read), errc::ok);
  EXPECT_TRUE(reaches(0x10000, 8, access::read));
  EXPECT_FALSE(reaches(0x10000, 8, access::write));
  EXPECT_FALSE(reaches(0x10000, 8, access::read_write));
  // The neighbour allows writing: a range over both may be read only.
  ASSERT_EQ(refusal(0x11000, page, copy_of(file), page), errc::ok);
  EXPECT_TRUE(reaches(0x10ff8, 16, access::read));
  EXPECT_FALSE(reaches(0x10ff8, 16, access::write));
  EXPECT_TRUE(reaches(0x11000, 16, access::write));
}

TEST_F(ClientMemory, ScatteredPagesThatAdjoinForTheClientAdjoinForUs) {
  // As under a virtual IOMMU: one map per page, file offsets in any order.
  client_view view{file, 16 * page};
  constexpr std::array<std::uint64_t, 4> file_pages{9, 3, 12, 0};
  for (std::uint64_t i = 0; i < file_pages.size(); ++i) {
    view[file_pages[i] * page] = static_cast<std::uint8_t>(10 + i);
    ASSERT_EQ(refusal(0x40000 + i * page, page, copy_of(file), file_pages[i] * page), errc::ok);
  }
  const resolved queue = memory.resolve(iova{0x40000}, 4 * page, access::read_write);
  ASSERT_NE(queue.address, nullptr);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(queue.address[i * page], static_cast<std::byte>(10 + i));
  }
  // A segment, though, stays inside its region.
  std::uint64_t run = 4 * page;
  const resolved first = memory.resolve_run(iova{0x40800}, run, access::read);
  EXPECT_EQ(run, page / 2);
  EXPECT_EQ(first.address, queue.address + 0x800);
  EXPECT_TRUE(first.memory->contains(first.address, run));
  run = 100;
  EXPECT_NE(memory.resolve_run(iova{0x41000}, run, access::read).address, nullptr);
  EXPECT_EQ(run, 100U);
  run = 100;
  EXPECT_EQ(memory.resolve_run(iova{0x44000}, run, access::read).address, nullptr);
  EXPECT_EQ(run, 0U);

  EXPECT_EQ(memory.unmap(iova{0x42000}, page), 1U);
  EXPECT_FALSE(reaches(0x40000, 4 * page));
  EXPECT_TRUE(reaches(0x40000, 2 * page));
  EXPECT_TRUE(reaches(0x43000, page));
}

TEST_F(ClientMemory, WhatMakesNoSenseIsRefused) {
  ASSERT_EQ(refusal(0x100000, 2 * page, copy_of(file)), errc::ok);
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(::pipe2(pipe_ends.data(), O_CLOEXEC), 0);
  const unique_fd reader{pipe_ends[0]};
  unique_fd elsewhere{::open("/proc/self/status", O_RDONLY | O_CLOEXEC)};
  unique_fd read_only{::open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDONLY)};
  EXPECT_EQ(refusal(0, 0, copy_of(file)), errc::invalid);
  EXPECT_EQ(refusal(top, 2, copy_of(file)), errc::invalid);
  EXPECT_EQ(refusal(0x200, page, copy_of(file)), errc::invalid);
  EXPECT_EQ(refusal(0, page + 1, copy_of(file)), errc::invalid);
  EXPECT_EQ(refusal(0, page, copy_of(file), 0x200), errc::invalid);
  EXPECT_EQ(refusal(0, 17 * page, copy_of(file)), errc::invalid);
  EXPECT_EQ(refusal(0, page, copy_of(file), 16 * page), errc::invalid);
  EXPECT_EQ(refusal(0, page, copy_of(file), top - page + 1), errc::invalid);
  EXPECT_EQ(refusal(0, page, unique_fd{pipe_ends[1]}), errc::unsupported);
  EXPECT_EQ(refusal(0, page, unique_fd{::socket(AF_UNIX, SOCK_STREAM, 0)}), errc::unsupported);
  EXPECT_EQ(refusal(0, page, unique_fd{::open("/dev/zero", O_RDWR)}), errc::unsupported);
  EXPECT_EQ(refusal(0, page, unique_fd{::open("/", O_RDONLY)}), errc::unsupported);
  EXPECT_EQ(refusal(0, page, std::move(elsewhere)), errc::unsupported);
  EXPECT_EQ(refusal(0, page, std::move(read_only)), errc::os);
  EXPECT_EQ(refusal(0x101000, page, copy_of(file)), errc::busy);
  EXPECT_EQ(refusal(0xff000, 2 * page, copy_of(file)), errc::busy);
  EXPECT_EQ(refusal(0xff000, 8 * page, copy_of(file)), errc::busy);
  EXPECT_EQ(refusal(0x100000, page, unique_fd{}), errc::busy);
  EXPECT_EQ(memory.map_count(), 1U);
}

TEST_F(ClientMemory, MappingTheSameAgainChangesNothing) {
  const auto first = memory.map(iova{0x1000}, page, access::read_write, copy_of(file), page);
  const std::uint64_t generation = memory.generation();
  const auto again = memory.map(iova{0x1000}, page, access::read_write, copy_of(file), page);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *first);
  EXPECT_EQ(memory.generation(), generation);
  EXPECT_EQ(refusal(0x1000, page, copy_of(file), page, access::read), errc::busy);
  EXPECT_EQ(refusal(0x1000, page, copy_of(file), 2 * page), errc::busy);
  EXPECT_EQ(refusal(0x1000, page, make_memory(16 * page), page), errc::busy);
}

TEST_F(ClientMemory, UnmapIsLenient) {
  ASSERT_EQ(refusal(0x10000, page, copy_of(file), 0), errc::ok);
  ASSERT_EQ(refusal(0x20000, page, copy_of(file), page), errc::ok);
  ASSERT_EQ(refusal(0x30000, 2 * page, copy_of(file), 2 * page), errc::ok);
  EXPECT_EQ(memory.unmap(iova{0x40000}, page), 0U);             // never mapped
  EXPECT_EQ(memory.unmap(iova{1ULL << 47U}, 1ULL << 47U), 0U);  // as QEMU does
  EXPECT_EQ(memory.unmap(iova{0x30000}, page), 0U);             // part of a map
  EXPECT_EQ(memory.unmap(iova{0x31000}, 4 * page), 0U);
  EXPECT_TRUE(memory.has_edge_inside_a_map(iova{0x30000}, iova{0x30fff}));
  EXPECT_TRUE(memory.has_edge_inside_a_map(iova{0x31000}, iova{0x34fff}));
  EXPECT_TRUE(memory.has_edge_inside_a_map(iova{0x10800}, iova{0x10900}));
  EXPECT_FALSE(memory.has_edge_inside_a_map(iova{0x30000}, iova{0x31fff}));
  EXPECT_FALSE(memory.has_edge_inside_a_map(iova{0x11000}, iova{0x2ffff}));
  EXPECT_FALSE(memory.has_edge_inside_a_map(iova{0}, iova{top}));
  EXPECT_EQ(memory.unmap(iova{0xf000}, 0x21000), 2U);  // covers two, touches the third
  EXPECT_EQ(memory.map_count(), 1U);
  EXPECT_TRUE(reaches(0x30000, 2 * page));
  EXPECT_EQ(memory.unmap(iova{0}, top), 1U);
}

TEST_F(ClientMemory, EveryChangeIsANewGeneration) {
  const std::uint64_t start = memory.generation();
  ASSERT_EQ(refusal(0x10000, page, copy_of(file)), errc::ok);
  const std::uint64_t mapped = memory.generation();
  EXPECT_NE(mapped, start);
  memory.unmap(iova{0x50000}, page);
  EXPECT_EQ(memory.generation(), mapped);
  memory.unmap(iova{0x10000}, page);
  EXPECT_NE(memory.generation(), mapped);
}

TEST_F(ClientMemory, AWithdrawnRegionCannotBeFoundButItsBytesStay) {
  const auto added = memory.map(iova{0x10000}, page, access::read_write, copy_of(file), 0);
  const resolved found = memory.resolve(iova{0x10000}, page, access::read_write);
  const region* const leaving = memory.find_inside(iova{0}, iova{top});
  ASSERT_EQ(leaving, *added);
  memory.withdraw(*leaving);
  EXPECT_FALSE(reaches(0x10000, 1));
  EXPECT_EQ(memory.find_inside(iova{0}, iova{top}), nullptr);
  *found.address = std::byte{1};  // I/O in flight
  EXPECT_EQ(leaving->length, page);
  EXPECT_EQ(refusal(0x10000, page, copy_of(file)), errc::busy);  // its place is not free yet
  memory.release(*leaving);
  EXPECT_EQ(refusal(0x10000, page, copy_of(file)), errc::ok);
}

TEST_F(ClientMemory, RangesWithoutADescriptorAreKnownButNotReachable) {
  const auto added = memory.map(iova{0xfffc0000}, 0x40000, access::read, unique_fd{}, 0);
  ASSERT_TRUE(added);
  EXPECT_EQ((*added)->address, nullptr);
  EXPECT_EQ(raw((*added)->first_iova()), 0xfffc0000U);
  EXPECT_FALSE(reaches(0xfffc0000, 1, access::read));
  EXPECT_EQ(refusal(top - 99, 100, unique_fd{}), errc::ok);
  EXPECT_EQ(memory.map_count(), 2U);
  EXPECT_EQ(memory.unmap(iova{0xfffc0000}, 0x40000), 1U);
}

TEST_F(ClientMemory, HighAddressesTakeSlotsUntilThereAreNoMore) {
  if (!all_slots_can_be_reserved) {
    GTEST_SKIP();
  }
  for (std::uint64_t i = 0; i < client_memory::slots_max; ++i) {
    ASSERT_EQ(refusal((i * 37 + 3) << 40U, page, copy_of(file), i * page), errc::ok) << i;
  }
  EXPECT_EQ(refusal(top - page + 1, page, copy_of(file)), errc::no_memory);
  EXPECT_EQ(refusal((std::uint64_t{3} << 40U) + page, page, copy_of(file)), errc::ok);
  EXPECT_TRUE(memory.unmap_some(client_memory::maps_max));
  EXPECT_EQ(refusal(top - page + 1, page, copy_of(file)), errc::ok);
  EXPECT_TRUE(reaches(top, 1));
  EXPECT_TRUE(reaches(top - page + 1, page));
  EXPECT_FALSE(reaches(top - page + 1, page + 1));
}

TEST_F(ClientMemory, ASlotWithoutMapsServesOtherAddresses) {
  if (!all_slots_can_be_reserved) {
    GTEST_SKIP();
  }
  const auto slot_start = [](std::uint64_t number) { return number << 40U; };
  for (std::uint64_t i = 0; i < client_memory::slots_max; ++i) {
    ASSERT_EQ(refusal(slot_start(i), page, copy_of(file), i * page), errc::ok) << i;
  }
  EXPECT_EQ(refusal(slot_start(99), page, copy_of(file)), errc::no_memory);
  ASSERT_EQ(memory.unmap(iova{slot_start(5)}, page), 1U);
  for (std::uint64_t number = 100; number < 200; ++number) {  // guests that come and go
    ASSERT_EQ(refusal(slot_start(number), page, copy_of(file)), errc::ok) << number;
    EXPECT_TRUE(reaches(slot_start(number), page));
    EXPECT_FALSE(reaches(slot_start(5), 1));
    ASSERT_EQ(memory.unmap(iova{slot_start(number)}, page), 1U);
  }
  EXPECT_TRUE(reaches(slot_start(6), page));
}

TEST_F(ClientMemory, WhatCrossesSlotsLeavesRoomOfAnyLengthBehind) {
  constexpr std::uint64_t border = std::uint64_t{5} << 40U;
  constexpr std::uint64_t length = address_reserve::bytes / 4;
  const unique_fd sparse = make_memory(length + page);
  for (std::uint64_t round = 0; round < 8; ++round) {
    const std::uint64_t this_length = length + (round % 2) * page;
    ASSERT_EQ(refusal(border - page, this_length, copy_of(sparse)), errc::ok) << round;
    ASSERT_EQ(memory.unmap(iova{border - page}, this_length), 1U);
  }
}

TEST_F(ClientMemory, LeavesAPieceAtATime) {
  for (std::uint64_t i = 0; i < 5; ++i) {
    ASSERT_EQ(refusal(0x10000 + i * page, page, copy_of(file), i * page), errc::ok);
  }
  memory.withdraw(*memory.find_inside(iova{0}, iova{top}));
  EXPECT_FALSE(memory.unmap_some(2));
  EXPECT_EQ(memory.map_count(), 3U);  // and the one that was withdrawn
  EXPECT_FALSE(memory.unmap_some(2));
  EXPECT_TRUE(memory.unmap_some(2));
  EXPECT_EQ(memory.map_count(), 0U);
}

TEST_F(ClientMemory, AMapMayCrossTheEndOfASlot) {
  client_view view{file, 16 * page};
  view[3 * page] = 33;
  constexpr std::uint64_t border = std::uint64_t{5} << 40U;
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(refusal(border - 2 * page, 4 * page, copy_of(file), page), errc::ok);
    const resolved all = memory.resolve(iova{border - 2 * page}, 4 * page, access::read_write);
    ASSERT_NE(all.address, nullptr);
    EXPECT_EQ(all.address[2 * page], std::byte{33});
    EXPECT_EQ(memory.unmap(iova{border - 2 * page}, 4 * page), 1U);
  }
}

TEST_F(ClientMemory, WhatAdjoinsOnlyForUsIsNotOneRange) {
  // Both cross a slot's end, so both are put aside, side by side; for the client they are far
  // apart.
  constexpr std::uint64_t length = 2 * mib;
  constexpr std::uint64_t one = (std::uint64_t{5} << 40U) - page;
  constexpr std::uint64_t other = (std::uint64_t{9} << 40U) - page;
  const unique_fd large = make_memory(length);
  ASSERT_EQ(refusal(one, length, copy_of(large)), errc::ok);
  ASSERT_EQ(refusal(other, length, copy_of(large)), errc::ok);
  ASSERT_EQ(memory.resolve(iova{one}, length, access::read).address + length,
            memory.resolve(iova{other}, length, access::read).address);
  EXPECT_FALSE(reaches(one, length + 1));
}

TEST_F(ClientMemory, TheNumberOfMapsIsBounded) {
  for (std::uint64_t i = 0; i < client_memory::maps_max; ++i) {
    ASSERT_TRUE(memory.map(iova{i * page}, page, access::read, unique_fd{}, 0));
  }
  EXPECT_EQ(refusal(top - page + 1, page, unique_fd{}), errc::no_memory);
  EXPECT_EQ(memory.unmap(iova{0}, top), client_memory::maps_max);
}

TEST_F(ClientMemory, NoDescriptorSurvivesItsMap) {
  const std::size_t before = open_descriptors();
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < 8; ++i) {
      ASSERT_EQ(refusal(0x10000 + i * page, page, copy_of(file), i * page), errc::ok);
    }
    EXPECT_EQ(open_descriptors(), before + 1);  // one file
    ASSERT_EQ(refusal(0x80000, page, make_memory(page)), errc::ok);
    EXPECT_EQ(open_descriptors(), before + 2);
    EXPECT_EQ(memory.unmap(iova{0x80000}, page), 1U);
    EXPECT_EQ(open_descriptors(), before + 1);
    EXPECT_EQ(refusal(0x10000, 2 * page, copy_of(file)), errc::busy);
    memory.unmap(iova{0x10000}, 4 * page);
    EXPECT_TRUE(memory.unmap_some(client_memory::maps_max));
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST_F(ClientMemory, AFileSharedForReadingOnlyIsNotWrittenByItsOtherDescriptor) {
  const auto path = "/proc/self/fd/" + std::to_string(file.get());
  ASSERT_EQ(refusal(0x10000, page, unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}, 0,
                    access::read),
            errc::ok);
  ASSERT_EQ(refusal(0x20000, page, copy_of(file)), errc::ok);  // the same file, for both
  EXPECT_TRUE(reaches(0x20000, page));
}

TEST_F(ClientMemory, TheNumberOfFilesIsBounded) {
  std::uint64_t count = 0;
  result<const region*> mapped = nullptr;
  for (; count <= client_memory::files_max; ++count) {
    mapped = memory.map(iova{count * page}, page, access::read, make_memory(page), 0);
    if (!mapped) {
      break;
    }
  }
  EXPECT_EQ(count, client_memory::files_max);
  EXPECT_EQ(mapped.error(), (error{errc::os, EMFILE}));
  EXPECT_EQ(memory.unmap(iova{0}, page), 1U);
  EXPECT_EQ(refusal(0, page, make_memory(page)), errc::ok);
}

TEST_F(ClientMemory, PartsOfHugePagesAreReachedToo) {
  constexpr std::uint64_t huge = 2 * mib;
  unique_fd pages{::memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB)};
  if (!pages || ::ftruncate(pages.get(), 2 * huge) != 0 ||
      ::fallocate(pages.get(), 0, 0, 2 * huge) != 0) {
    GTEST_SKIP() << "no huge pages here";
  }
  client_view view{pages, 2 * huge};
  // As PC firmware splits the first megabyte, with the rest behind it; several times over.
  struct piece {
    std::uint64_t first;
    std::uint64_t end;
    access permissions;
  };
  const std::array<piece, 4> pieces{{{0, 0xc0000, access::read_write},
                                     {0xc0000, 0xe0000, access::read},
                                     {0xe0000, 0x100000, access::read_write},
                                     {0x100000, 2 * huge, access::read_write}}};
  for (int storm = 0; storm < 4; ++storm) {
    ASSERT_EQ(refusal(0, 2 * huge, copy_of(pages)), errc::ok);
    EXPECT_TRUE(reaches(0, 2 * huge));
    EXPECT_EQ(memory.unmap(iova{0}, 2 * huge), 1U);
    for (const piece& each : pieces) {
      ASSERT_EQ(
          refusal(each.first, each.end - each.first, copy_of(pages), each.first, each.permissions),
          errc::ok);
      view[each.end - 1] = static_cast<std::uint8_t>(storm + 1);
      const resolved last = memory.resolve(iova{each.end - 1}, 1, access::read);
      ASSERT_NE(last.address, nullptr);
      EXPECT_EQ(*last.address, static_cast<std::byte>(storm + 1));
    }
    EXPECT_FALSE(reaches(0xc0000, 8, access::write));
    EXPECT_EQ(memory.unmap(iova{0}, 2 * huge), pieces.size());
  }
}

TEST_F(ClientMemory, AgreesWithAPageTableThroughRandomChanges) {
  constexpr std::uint64_t pages = 64;
  constexpr std::uint64_t seed = 20261120;
  SCOPED_TRACE(seed);
  std::mt19937_64 random{seed};
  const unique_fd large = make_memory(pages * page);
  client_view view{large, pages * page};
  for (std::uint64_t i = 0; i < pages; ++i) {
    view[i * page] = static_cast<std::uint8_t>(i);
  }
  struct known_map {
    std::uint64_t count;
    std::uint64_t file_page;
  };
  std::map<std::uint64_t, known_map> known;  // by first page
  const auto file_page_of = [&](std::uint64_t at) -> std::optional<std::uint64_t> {
    const auto above = known.upper_bound(at);
    if (above == known.begin()) {
      return std::nullopt;
    }
    const auto& [first, map] = *std::prev(above);
    return at - first < map.count ? std::optional{map.file_page + (at - first)} : std::nullopt;
  };
  for (int step = 0; step < 4000; ++step) {
    const std::uint64_t first = random() % pages;
    const std::uint64_t count = 1 + random() % 6;
    if (random() % 2 == 0) {
      const std::uint64_t file_page = random() % (pages - 6);
      bool free = true;
      for (std::uint64_t i = 0; i < count; ++i) {
        free = free && !file_page_of(first + i);
      }
      const errc got = refusal(first * page, count * page, copy_of(large), file_page * page);
      if (free) {
        ASSERT_EQ(got, errc::ok);
        known[first] = {.count = count, .file_page = file_page};
      }
    } else {
      std::erase_if(known, [&](const auto& item) {
        return item.first >= first && item.first + item.second.count <= first + count;
      });
      memory.unmap(iova{first * page}, count * page);
    }
    ASSERT_EQ(memory.map_count(), known.size());
    const std::uint64_t look = random() % pages;
    const std::uint64_t length = 1 + random() % 4;
    const resolved found = memory.resolve(iova{look * page}, length * page, access::read);
    bool expected = true;
    for (std::uint64_t i = 0; i < length; ++i) {
      const auto file_page = file_page_of(look + i);
      expected = expected && file_page.has_value();
      if (found.address != nullptr) {
        ASSERT_TRUE(file_page.has_value());
        ASSERT_EQ(found.address[i * page], static_cast<std::byte>(*file_page));
      }
    }
    ASSERT_EQ(found.address != nullptr, expected);
  }
}

}  // namespace
}  // namespace runnel::vfio_user
