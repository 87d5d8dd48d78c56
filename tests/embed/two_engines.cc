// A program that uses the library and keeps its own `main`: two engines side by side, each with a
// disk in memory, made and torn down a hundred times. Nothing may be left of them.

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "mempool/pool.h"
#include "runtime/engine.h"

namespace {

using namespace runnel;

task<bool> write_and_read_back(io::disk& disk, buffer_pool& pool, unsigned char mark) {
  buffer data = pool.get();
  std::memset(data.data(), mark, data.size());
  const result<buffer> written = co_await disk.write(lba{8}, std::move(data));
  buffer empty = pool.get();
  const result<buffer> back = co_await disk.read(lba{8}, std::move(empty));
  co_return written&& back&& std::memcmp(written->data(), back->data(), back->size()) == 0;
}

bool use_one(engine& host, unsigned char mark) {
  const auto disk = host.open(*io::parse_address("ram:4M"));
  const auto pool = host.make_pool({.count = 4});
  return disk && pool &&
         host.run(0, [&](reactor&) { return write_and_read_back((*disk)->on(0), **pool, mark); });
}

bool one_round() {
  const auto one = engine::create({});
  const auto other = engine::create({});
  return one && other && use_one(**one, 1) && use_one(**other, 2);
}

std::ptrdiff_t entries(const char* folder) {
  return std::distance(std::filesystem::directory_iterator{folder}, {});
}

std::array<std::ptrdiff_t, 3> files_maps_threads() {
  std::ifstream maps{"/proc/self/maps"};
  const auto lines = std::count(std::istreambuf_iterator<char>{maps}, {}, '\n');
  return {entries("/proc/self/fd"), lines, entries("/proc/self/task")};
}

}  // namespace

int main() {
  constexpr int rounds = 100;
  std::array<std::ptrdiff_t, 3> early{};
  for (int round = 0; round < rounds; ++round) {
    if (!one_round()) {
      return 1;
    }
    early = round == 3 ? files_maps_threads() : early;  // by then the allocator has its arenas
  }
  const auto late = files_maps_threads();
  std::printf("files %td -> %td, maps %td -> %td, threads %td -> %td\n", early[0], late[0],
              early[1], late[1], early[2], late[2]);
  // An allocator may map more now and then, as a sanitizer's does; a leak does in every round.
  const bool maps_flat = late[1] - early[1] < rounds / 2;
  return early[0] == late[0] && maps_flat && early[2] == late[2] ? 0 : 1;
}
