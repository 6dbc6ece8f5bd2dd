import { expect, test } from "vitest";
import { withPlace } from "./recentPlaces";

test("a place is there once, first, and under its newest title", () => {
  const places = [
    { href: "/a", title: "A" },
    { href: "/b", title: "Loading" },
  ];
  expect(withPlace(places, { href: "/b", title: "B" })).toEqual([
    { href: "/b", title: "B" },
    { href: "/a", title: "A" },
  ]);
  const many = Array.from({ length: 20 }, (_, index) => ({ href: `/${index}`, title: "" }));
  expect(withPlace(many, { href: "/x", title: "X" })).toHaveLength(12);
});
