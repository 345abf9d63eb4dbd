// Upload a photo with Go's standard library.
package main

import (
	"bytes"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"os"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	url, key, path, output := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	field := must(form.CreateFormFile("image_file", "photo.jpg"))
	must(field.Write(must(os.ReadFile(path))))
	must(0, form.WriteField("size", "auto"))
	must(0, form.Close())
	request := must(http.NewRequest(http.MethodPost, url, &body))
	request.Header.Set("X-Api-Key", key)
	request.Header.Set("Content-Type", form.FormDataContentType())
	answer := must(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	cutout := must(io.ReadAll(answer.Body))
	if answer.StatusCode != http.StatusOK {
		log.Fatalf("%s: %s", answer.Status, cutout)
	}
	must(0, os.WriteFile(output, cutout, 0o600))
}
