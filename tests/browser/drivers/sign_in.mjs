// The page on which a browser presents its token.

/** Try a wrong token, then the right one; return what the wrong one came to. */
export async function signIn({ page, shoot, token }) {
  const present = async (text) => {
    await page.getByLabel("Access token").fill(text);
    await page.getByRole("button", { name: "Sign in" }).click();
  };
  await shoot("sign_in");
  await present(`${token}x`);
  const told = await page.getByRole("alert").innerText();
  await shoot("sign_in_wrong");
  await page.goto(page.url()); // The address of the form, loaded again, leads back to it.
  await present(token);
  return told;
}
