// Goal: types that would lead libbpf astray are recognised, in files with any byte changed, too.
// Method: types that are wrong in one thing each, and every change of a byte of good ones.

#include "apps/doctor/sound_types.h"

#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "apps/doctor/structures.h"
#include "apps/doctor/types_for_tests.h"
#include "drivers/pci/machine_for_tests.h"

namespace runnel::doctor {
namespace {

class SoundTypes : public testing::Test {
 protected:
  std::unique_ptr<btf, decltype(&btf__free)> types{btf__new_empty(), btf__free};
  const int number = btf__add_int(types.get(), "int", 4, BTF_INT_SIGNED);
  const int next = number + 1;  // the number of the type that is added next
};

TEST_F(SoundTypes, AStructureMayPointToItself) {
  const int list = btf__add_struct(types.get(), "list_head", 16);
  btf__add_field(types.get(), "next", list + 1, 0, 0);
  btf__add_ptr(types.get(), list);
  EXPECT_TRUE(are_sound(types.get()));
}

TEST_F(SoundTypes, AStructureMayNotHaveItselfInItself) {
  btf__add_struct(types.get(), "outer", 4);
  btf__add_field(types.get(), "inner", next + 1, 0, 0);
  btf__add_array(types.get(), number, next, 1);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, AStructureWithoutANameMayNotPointToItself) {
  btf__add_struct(types.get(), "", 8);
  btf__add_field(types.get(), "next", next + 1, 0, 0);
  btf__add_ptr(types.get(), next);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, APointerMayNotPointToItself) {
  btf__add_ptr(types.get(), next + 1);
  btf__add_const(types.get(), next);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, AFunctionMayNotTakeItself) {
  btf__add_func_proto(types.get(), number);
  btf__add_func_param(types.get(), "callback", next + 1);
  btf__add_ptr(types.get(), next);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, WhatIsReferredToIsThere) {
  btf__add_ptr(types.get(), next + 1);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, SomeDepthIsAllowedAndMoreIsNot) {
  for (int id = number; id < 120; ++id) {
    btf__add_ptr(types.get(), id);
  }
  EXPECT_TRUE(are_sound(types.get()));
  for (int id = 120; id < 140; ++id) {
    btf__add_ptr(types.get(), id);
  }
  EXPECT_FALSE(are_sound(types.get()));
}

/// The other way round, the first is as deep as all.
TEST_F(SoundTypes, DepthCountsFromAnywhere) {
  for (int id = next; id < 200; ++id) {
    btf__add_ptr(types.get(), id + 1);
  }
  btf__add_ptr(types.get(), number);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, WhatIsSpelledOutIsNotLong) {
  const auto add_unnamed = [this](std::uint32_t bytes) {
    return btf__add_struct(types.get(), "", bytes);
  };
  add_unnamed(1 << 20);
  btf__add_field(types.get(), "last", number, 1 << 22, 0);
  EXPECT_TRUE(are_sound(types.get()));
  add_unnamed(0x4000'0000);
  EXPECT_FALSE(are_sound(types.get()));
}

TEST_F(SoundTypes, MembersAreInTheirStructures) {
  btf__add_struct(types.get(), "", 8);
  btf__add_field(types.get(), "beyond", number, 1 << 20, 0);
  EXPECT_FALSE(are_sound(types.get()));
}

/// Each has the one before twice: what is to be printed doubles.
TEST_F(SoundTypes, NestsThatMultiplyAreRefused) {
  int inner = number;
  for (int i = 0; i < 40; ++i) {
    const int outer = btf__add_struct(types.get(), "", 8);
    btf__add_field(types.get(), "one", inner, 0, 0);
    btf__add_field(types.get(), "other", inner, 0, 0);
    inner = outer;
  }
  EXPECT_FALSE(are_sound(types.get()));
}

/// Files of a running kernel, whose structures are told, or known only.
class ChangedFiles : public testing::Test {
 protected:
  void expect_answers(const char* path, const std::string& good) {
    int told = 0;
    int refused = 0;
    for (std::size_t place = 0; place < good.size(); ++place) {
      for (const char change : {'\x01', '\x7f', '\x80'}) {
        std::string bytes = good;
        bytes[place] = static_cast<char>(bytes[place] ^ change);
        machine.remove(path);  // a new file costs less than a changed one: nothing is flushed
        machine.file(path, bytes);
        const auto all = running_structures(machine.files());
        ASSERT_EQ(all.size(), 5U);
        ++(all.front().is_told() ? told : refused);
      }
    }
    EXPECT_GT(told, 0);
    EXPECT_GT(refused, 0);
    machine.file(path, good);
  }

  pci::machine_for_tests machine;
};

TEST_F(ChangedFiles, AreReadOrRefused) {
  const types_for_tests types = make_types();
  constexpr const char* base = "/sys/kernel/btf/vmlinux";
  constexpr const char* module = "/sys/kernel/btf/vfio_pci_core";
  machine.file(base, types.base);
  machine.file(module, types.module);
  expect_answers(base, types.base);
  expect_answers(module, types.module);
}

}  // namespace
}  // namespace runnel::doctor
